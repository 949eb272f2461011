// The native module: arrays and arguments of Python in, calls of the C API, exceptions out. Nothing here is numeric.
#pragma once

#include <nanobind/nanobind.h>
#include <piquant/quant.h>

#include <atomic>
#include <cstdint>
#include <string>

namespace nb = nanobind;

namespace piquant_python {

class Blocks;
class Context;
struct View;

// Where arrays lie: in the memory of this process, or on the CUDA device of a number.
constexpr int host = -1;

// An object that is looked for when it is first needed, and kept for as long as the process lives. Of threads that look at
// once each finds the same. None waits for another, as it would for a static of a function: that one may have let go of the
// interpreter, and want it back from who waits.
class Found {
public:
    template <class Look>
    PyObject* by(const Look& look) {
        PyObject* found = found_.load(std::memory_order_acquire);
        if (found == nullptr) {
            nb::object looked = look();
            found = looked.release().ptr();
            found_.store(found, std::memory_order_release);
        }
        return found;
    }

private:
    std::atomic<PyObject*> found_{nullptr};
};

// What a call was given, for the C API and for the words of the exception.
struct Call {
    int device = host;
    int float_dtype = -1;
    int code_dtype = -1;
    double scale = 0;
    std::int64_t zero_point = 0;
    std::size_t n = 0;
    // As Python gave them. A handle without an object stands for an argument that the call does not have.
    nb::handle scale_given;
    nb::handle zero_point_given;
    nb::handle quant_min;
    nb::handle quant_max;
    nb::handle isa;
    const char* input = "x";  // name of the argument that is read
    const View* out = nullptr;
    const Blocks* blocks = nullptr;
};

// errors.cpp: statuses and values as words.

// Throws the Python exception for a status other than PIQUANT_OK.
[[noreturn]] void throw_status(piquant_status_t status, const Call& call);

inline void check(piquant_status_t status, const Call& call) {
    if (status != PIQUANT_OK) {
        throw_status(status, call);
    }
}

// Clears an error of converting an argument, to be told in our words. Interrupts and lack of memory are thrown on.
void clear_error();

// repr(value), or the beginning of a long one; never an error of the value's own.
std::string text(nb::handle value);
// Name of its type.
std::string type_of(nb::handle value);
std::string shape_words(const std::size_t* shape, std::size_t rank);
// Name of a dtype, whether codes share bytes or not.
std::string dtype_name(int dtype);
// The zero point of symmetric parameters: the middle of an unsigned range.
std::uint64_t symmetric_zero_point(int dtype);
// "strides .. for shape ..", as the face of the array counts strides.
std::string layout_words(const View& view);

// arguments.cpp: what is no array.

// operator.index(value), after which converting it runs no code of the caller.
nb::object as_index(nb::handle value, const char* argument);

// A Python integer as the 64 bits that the C API takes for a zero point or range limit of `dtype`. Integers that do not
// fit raise `status`, whose words name the allowed range.
std::int64_t code_bits(nb::handle value, const char* argument, int dtype, piquant_status_t status, const Call& call);

// A Python integer in lowest .. highest.
std::uint64_t word_bits(nb::handle value, const char* argument, std::uint64_t lowest = 0,
                        std::uint64_t highest = UINT64_MAX);

bool flag(nb::handle value, const char* argument);
double number(nb::handle value, const char* argument);
bool is_stochastic(nb::handle round_mode);
bool is_add(nb::handle reduce_op);
void read_range(nb::handle quant_min, nb::handle quant_max, Call& call, piquant_options_t& options);
// All arguments are converted before the arrays are looked at: code of the caller's might change these.
void read_params(nb::handle scale, nb::handle zero_point, Call& call);

void init_calls(nb::module_& m);
// threads.cpp: torch's threads, or null where there are none to be used.
const piquant_threads_t* threads_of_torch();

void init_threads(nb::module_& m);
void init_params(nb::module_& m);
void init_messages(nb::module_& m);
void init_device(nb::module_& m);
void init_context(nb::module_& m);
void init_face(nb::module_& m);
void init_output(nb::module_& m);
void init_tensors(nb::module_& m);
void init_arrays(nb::module_& m);

}  // namespace piquant_python
