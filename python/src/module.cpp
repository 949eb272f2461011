#include "module.hpp"

// Imported as _native, through import.cpp.
NB_MODULE(_native_unchecked, m) {
    // A daemon thread that is in a call when the interpreter exits keeps its objects; that is no reason for words on
    // stderr.
    nb::set_leak_warnings(false);
    m.doc() = "Native part of piquant; use the functions of the package instead.";
    m.def("version", &piquant_version, "Version of the native library.");
    m.def(
        "available_isas",
        [] {
            nb::list names;
            for (std::size_t i = 0; const char* name = piquant_available_isa(i); ++i) {
                names.append(nb::str(name));
            }
            return nb::cast<nb::typed<nb::list, nb::str>>(names);
        },
        "Instruction sets that this CPU runs, best first.");
    m.def(
        "dtypes",
        [] {
            nb::list all;
            const char* name;
            for (int i = 0; (name = piquant_dtype_name(static_cast<piquant_dtype_t>(i))) != nullptr; ++i) {
                const auto dtype = static_cast<piquant_dtype_t>(i);
                std::int64_t ends[2];
                const bool is_float = piquant_dtype_range(dtype, &ends[0], &ends[1]) != PIQUANT_OK;
                all.append(nb::make_tuple(name, piquant_dtype_bits(dtype), is_float));
            }
            return nb::cast<nb::typed<nb::list, nb::typed<nb::tuple, nb::str, int, bool>>>(all);
        },
        "Name, bits and whether it is a float, of every piquant_dtype_t in order.");
    m.def(
        "prepare_output",
        [](std::uintptr_t address, std::size_t bytes) {
            piquant_prepare_output(reinterpret_cast<void*>(address), bytes);
        },
        nb::arg("address"), nb::arg("bytes"), "Advises freshly allocated memory onto huge pages where that pays.");
    piquant_python::init_threads(m);
    piquant_python::init_context(m);
    piquant_python::init_face(m);
    piquant_python::init_calls(m);
    piquant_python::init_params(m);
    piquant_python::init_messages(m);
    piquant_python::init_device(m);
    piquant_python::init_output(m);
    piquant_python::init_tensors(m);
    piquant_python::init_arrays(m);
}
