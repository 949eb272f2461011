// What Python calls to import the module. Compiled, like all that runs before the check, for the architecture's
// baseline (PIQUANT_BASELINE_FLAGS): a module built for a newer CPU than this one must end in an ImportError, not in an
// illegal instruction.
#include <Python.h>
#include <piquant/quant.h>

#include <atomic>

#if defined(__SSE3__)
#error "compile this unit with PIQUANT_BASELINE_FLAGS"
#endif

extern "C" {

PyObject* PyInit__native_unchecked(void);

PyMODINIT_FUNC PyInit__native(void) {
    if (piquant_available_isa(0) == nullptr) {
        PyErr_SetString(PyExc_ImportError, piquant_status_string(PIQUANT_ERROR_CPU));
        return nullptr;
    }
    // What the module knows of Python, its types and interned names, belongs to one interpreter. The main one is 0.
    // From 3.13 on Python calls this in the main one, whichever imports: for others with a thread state that runs no
    // Python code, while the code that imports runs in the main one's.
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0 || PyEval_GetFrame() == nullptr) {
        PyErr_SetString(PyExc_ImportError,
                        "piquant runs in the main interpreter of a process only, not in subinterpreters");
        return nullptr;
    }
    static std::atomic<bool> imported = false;
    if (imported.exchange(true)) {
        PyErr_SetString(PyExc_ImportError,
                        "piquant._native was imported before and removed from sys.modules; it can be loaded only once "
                        "in a process: leave it there, or start another process");
        return nullptr;
    }
    return PyInit__native_unchecked();
}

}  // extern "C"
