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
        "prepare_output",
        [](std::uintptr_t address, std::size_t bytes) {
            piquant_prepare_output(reinterpret_cast<void*>(address), bytes);
        },
        nb::arg("address"), nb::arg("bytes"), "Advises freshly allocated memory onto huge pages where that pays.");
    piquant_python::init_context(m);
    piquant_python::init_buffer(m);
    piquant_python::init_output(m);
    piquant_python::init_tensors(m);
    piquant_python::init_arrays(m);
}
