#include <nanobind/stl/string.h>

#include <string>

#include "unlocked.hpp"
#include "view.hpp"

namespace piquant_python {
namespace {

using namespace std::string_literals;

// Names of arguments that functions of frameworks are called with; made with the module.
PyObject* name_of_dtype = nullptr;
PyObject* names_of_params = nullptr;

const char* role_name(Role role) {
    switch (role) {
        case Role::floats: return "floats";
        case Role::codes: return "codes";
        case Role::scales: return "scales";
        case Role::zero_points: return "zero points";
        case Role::output: break;
    }
    return "output";
}

bool fits(const DType& found, const Wanted& wanted) {
    switch (wanted.role) {
        case Role::floats:
        case Role::scales: return found.is_float();
        case Role::zero_points: return found.id >= PIQUANT_INT8 && found.id <= PIQUANT_UINT64;
        case Role::codes: return !found.is_float();
        case Role::output: break;
    }
    return found.storage.is(wanted.dtype->storage);
}

}  // namespace

nb::object call(nb::handle function, std::initializer_list<nb::handle> arguments) {
    PyObject* given[8];
    std::size_t count = 0;
    for (const nb::handle argument : arguments) {
        given[count++] = argument.ptr();
    }
    nb::object result = nb::steal(vectorcall(function.ptr(), given, count));
    if (!result.is_valid()) {
        throw nb::python_error();
    }
    return result;
}

void refuse_float_zero_points(const char* argument, nb::handle dtype) {
    (void)call(nb::module_::import_("piquant._dtypes").attr("refuse_float_zero_points"), {nb::str(argument), dtype});
    throw nb::type_error("zero points must be integers");
}

Extent View::extent() const {
    if (type->carries_params && type->is_packed()) {  // rows run on
        const auto begin = reinterpret_cast<std::uintptr_t>(data);
        return {begin, begin + piquant_size(static_cast<piquant_dtype_t>(type->id), n)};
    }
    Extent e{reinterpret_cast<std::uintptr_t>(data), reinterpret_cast<std::uintptr_t>(data) + item};
    for (std::size_t d = 0; d < rank; ++d) {
        if (shape[d] == 0) {
            return {};
        }
        (strides[d] < 0 ? e.begin : e.end) += static_cast<std::uintptr_t>(strides[d]) * (shape[d] - 1);
    }
    return e;
}

const DType& Face::dtype(nb::handle spelling, const char* argument, bool wants_float) const {
    PyObject* found = PyDict_GetItemWithError(dtypes.ptr(), spelling.ptr());
    if (found == nullptr && PyErr_Occurred() != nullptr) {
        clear_error();
    }
    if (found == nullptr || nb::inst_ptr<DType>(found)->is_float() != wants_float) {
        found = call(find_dtype, {spelling, nb::str(argument), nb::bool_(wants_float)}).ptr();  // `dtypes` keeps it
    }
    return *nb::inst_ptr<DType>(found);
}

// The description of an array: (address, DType, shape, strides, instead), and the number of its device, if it is on one. Strides are bytes, or None for row-major
// order without gaps. `instead` is None, or an array of plain elements to read in place of this one.
void Face::describe_into(nb::handle array, const char* argument, const Wanted& wanted, View& view) const {
    const nb::object dtype = wanted.dtype == nullptr ? nb::object(nb::none()) : nb::find(*wanted.dtype);
    const nb::object description = call(describe, {array, nb::str(argument), nb::str(role_name(wanted.role)), dtype});
    const auto parts = nb::cast<nb::tuple>(description);
    const auto shape = nb::cast<nb::tuple>(parts[2]);
    const nb::object strides = parts[3];
    if (nb::len(shape) > PIQUANT_MAX_RANK) {
        throw nb::value_error((argument + " must have at most "s + std::to_string(PIQUANT_MAX_RANK) +
                               " dimensions, got " + std::to_string(nb::len(shape)))
                                  .c_str());
    }
    view.data = reinterpret_cast<void*>(nb::cast<std::uintptr_t>(parts[0]));
    view.type = nb::inst_ptr<DType>(parts[1]);
    view.device = nb::len(parts) > 5 ? nb::cast<int>(parts[5]) : host;
    view.item = piquant_size(static_cast<piquant_dtype_t>(view.type->stored), 1);
    view.rank = nb::len(shape);
    for (std::size_t d = 0; d < view.rank; ++d) {
        view.shape[d] = nb::cast<std::size_t>(shape[d]);
    }
    view.set_row_major();
    for (std::size_t d = 0; !strides.is_none() && d < view.rank; ++d) {
        view.strides[d] = nb::cast<std::ptrdiff_t>(strides[d]);
    }
    view.count();
    if (nb::object instead = parts[4]; !instead.is_none()) {
        replace(instead, argument, wanted, view);
    }
}

void Face::replace(nb::handle instead, const char* argument, const Wanted& wanted, View& view) const {
    if (view.original.end == 0) {
        view.original = view.extent();
    }
    const nb::object copy = nb::borrow(instead);
    this->view(copy, argument, wanted, view);
    view.owner = copy;
    view.plain = false;
    if (overlap(view.original, view.extent())) {
        view.original = {};  // another object for the same memory
    }
}

void Face::view(nb::handle array, const char* argument, const Wanted& wanted, View& view) const {
    view.plain = look(*this, array, argument, wanted, view) && (describe.is_none() || fits(*view.type, wanted));
    if (!view.plain) {
        describe_into(array, argument, wanted, view);
    }
}

void Face::make_contiguous(nb::handle array, const char* argument, const Wanted& wanted, View& view) const {
    if (contiguous.is_none()) {
        copy_buffer(argument, wanted, view);
        return;
    }
    const nb::object copy =
        call(contiguous, {view.owner.is_valid() ? nb::handle(view.owner) : array, nb::str(argument)});
    replace(copy, argument, wanted, view);
}

nb::object Face::new_output(nb::handle like, bool plain, const DType& dtype, nb::handle shape, std::size_t bytes,
                            const Call& given) const {
    const bool on_device = given.device != host;
    if (bytes < small || on_device) {
        nb::object made;
        if (!shape.is_none() && on_device) {
            // The fast ways make arrays of the host.
        } else if (!shape.is_none() && dtype.carries_params) {
            const nb::float_ scale(given.scale);  // torch wants the very types
            const nb::int_ zero_point(given.zero_point);
            PyObject* const by_params[] = {shape.ptr(), dtype.storage.ptr(), scale.ptr(), zero_point.ptr()};
            made = nb::steal(vectorcall(make_quantized.ptr(), by_params, 1, names_of_params));
        } else if (!shape.is_none()) {
            PyObject* const by_shape[] = {shape.ptr(), dtype.storage.ptr()};
            made = nb::steal(vectorcall(make_small.ptr(), by_shape, 2));
        } else if (plain && !dtype.carries_params) {
            PyObject* const by_example[] = {like.ptr(), dtype.storage.ptr()};
            made = nb::steal(vectorcall(make_alike.ptr(), by_example, 1, name_of_dtype));
        }
        if (made.is_valid()) {
            return made;
        }
        if (PyErr_Occurred() != nullptr && PyErr_ExceptionMatches(PyExc_Exception) == 0) {  // an interrupt
            throw nb::python_error();
        }
        PyErr_Clear();
    }
    return call(make, {like, nb::find(dtype), shape, given.scale_given, given.zero_point_given});
}

void Face::match_device(const View& view, const char* argument, const Call& given) const {
    const auto words = [](int device) { return device == host ? "cpu"s : "cuda:" + std::to_string(device); };
    if (view.device != given.device) {
        throw nb::type_error((argument + " must be on device "s + words(given.device) +
                              ", as the data is, got device " + words(view.device))
                                 .c_str());
    }
}

void Face::compare_params(nb::handle array, const char* argument, const Call& given) const {
    (void)call(check_params, {array, nb::str(argument), given.scale_given, given.zero_point_given});
}

void Face::tell_written(nb::handle output) const {
    if (!written.is_none()) {
        (void)call(written, {nb::make_tuple(output)});
    }
}

namespace {

Face* new_face(const std::string& kind, const nb::typed<nb::dict, nb::object, DType>& dtypes, nb::handle find_dtype,
               nb::handle make, nb::handle draw_seed, nb::handle make_alike, nb::handle make_small,
               nb::handle make_quantized, std::size_t small, nb::handle describe, nb::handle contiguous,
               nb::handle check_params, nb::handle written, nb::handle run, bool runs_all) {
    auto* face = new Face{};
    const bool buffers = kind == "buffers";
    face->look = buffers ? look_at_buffer : kind == "torch" ? look_at_tensor : look_at_array;
    face->floats = kind == "torch" ? "tensor" : "x";
    face->codes = kind == "torch" ? "tensor" : "q";
    face->noun = kind == "torch" ? "tensor" : buffers ? "buffer" : "array";
    face->flat_outputs = buffers;
    face->tells_shapes = buffers;
    face->one_is_number = kind == "torch";
    face->threads = kind == "torch" ? threads_of_torch() : nullptr;
    face->dtypes = dtypes;
    face->find_dtype = nb::borrow(find_dtype);
    face->make = nb::borrow(make);
    face->draw_seed = nb::borrow(draw_seed);
    face->make_alike = nb::borrow(make_alike);
    face->make_small = nb::borrow(make_small);
    face->make_quantized = nb::borrow(make_quantized);
    face->small = small;
    face->describe = nb::borrow(describe);
    face->contiguous = nb::borrow(contiguous);
    face->check_params = nb::borrow(check_params);
    face->written = nb::borrow(written);
    face->run = nb::borrow(run);
    face->runs_all = runs_all;
    for (const auto& [spelling, value] : dtypes) {
        const auto* type = nb::inst_ptr<DType>(value);
        if (type->is_element()) {
            face->elements[type->id] = type;
        }
    }
    return face;
}

// (address, dtype, shape, strides in bytes) of an array that is seen without Python, else None.
nb::object see(const Face& face, nb::handle array, bool output) {
    View view;
    if (!face.look(face, array, "array", {output ? Role::output : Role::floats}, view)) {
        return nb::none();
    }
    nb::list shape;
    nb::list strides;
    for (std::size_t d = 0; d < view.rank; ++d) {
        shape.append(view.shape[d]);
        strides.append(view.strides[d]);
    }
    return nb::make_tuple(reinterpret_cast<std::uintptr_t>(view.data), view.type->id, nb::tuple(shape),
                          nb::tuple(strides));
}

}  // namespace

void init_face(nb::module_& m) {
    using namespace nb::literals;
    name_of_dtype = nb::make_tuple("dtype").release().ptr();
    names_of_params = nb::make_tuple("dtype", "scale", "zero_point").release().ptr();
    nb::class_<DType>(m, "DType", "What a dtype of a face stands for; dtypes are numbers of piquant_dtype_t.")
        .def(
            "__init__",
            [](DType* self, int id, int stored, nb::handle storage, bool carries_params) {
                new (self) DType{id, stored, nb::borrow(storage), carries_params};
            },
            "id"_a, "stored"_a, "storage"_a, "carries_params"_a = false)
        .def_ro("id", &DType::id)
        .def_ro("stored", &DType::stored)
        .def_ro("storage", &DType::storage, nb::sig("def storage(self) -> typing.Any"))
        .def_ro("carries_params", &DType::carries_params)
        .def_prop_ro("is_float", &DType::is_float)
        .def_prop_ro("is_packed", &DType::is_packed);
    nb::class_<Face>(m, "Face", "How one kind of arrays is looked at and made.")
        .def(nb::new_(&new_face), "kind"_a, nb::kw_only(), "dtypes"_a, "find_dtype"_a, "make"_a, "draw_seed"_a,
             "make_alike"_a.none() = nb::none(), "make_small"_a.none() = nb::none(),
             "make_quantized"_a.none() = nb::none(), "small"_a = 0, "describe"_a.none() = nb::none(),
             "contiguous"_a.none() = nb::none(), "check_params"_a.none() = nb::none(), "written"_a.none() = nb::none(),
             "run"_a.none() = nb::none(), "runs_all"_a = false)
        .def("see", &see, "array"_a.none(), "output"_a = false,
             nb::sig("def see(self, array: object, output: bool = False) -> "
                     "tuple[int, int, tuple[int, ...], tuple[int, ...]] | None"),
             "Address, dtype, shape and byte strides of an array that is seen without Python; for tests.");
}

}  // namespace piquant_python
