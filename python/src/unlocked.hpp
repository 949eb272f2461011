// Leaving the interpreter and coming back: kernels run without its lock, and some calls run Python.
//
// Once the interpreter has begun to exit, Python before 3.14 ends a daemon thread with pthread_exit when it wants the
// lock. Unwinding from there would destroy objects of Python without the lock, and call std::terminate at the first
// noexcept function. Such a thread sleeps instead until the process is gone, as it does from 3.14 on.
#pragma once

#include <Python.h>
#include <piquant/quant.h>

#include <chrono>
#include <cstddef>
#include <thread>

namespace piquant_python {

[[noreturn]] inline void sleep_forever() {
    for (;;) {
        std::this_thread::sleep_for(std::chrono::hours(1));
    }
}

inline void lock_again(PyThreadState* state) {
    try {
        PyEval_RestoreThread(state);
    } catch (...) {
        sleep_forever();
    }
}

// PyObject_Vectorcall, of what may run Python.
inline PyObject* vectorcall(PyObject* function, PyObject* const* arguments, std::size_t count,
                            PyObject* names = nullptr) {
    try {
        return PyObject_Vectorcall(function, arguments, count, names);
    } catch (...) {
        sleep_forever();
    }
}

// Without the lock, except where taking it back would cost more than the kernel.
class Unlocked {
public:
    explicit Unlocked(std::size_t elements) : state_(elements < 4096 ? nullptr : PyEval_SaveThread()) {}
    ~Unlocked() {
        if (state_ != nullptr) {
            lock_again(state_);
        }
    }
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;

private:
    PyThreadState* state_;
};

// Gives the memory that is kept for outputs back to the system; returns how many bytes. It wants the lock.
std::size_t release_kept();

// The status of a call of the C API on so many elements, made without the lock. Should memory be too little, it is made
// once more without what is kept: a call that fails has written nothing.
template <class Call>
piquant_status_t run_unlocked(std::size_t elements, const Call& call) {
    piquant_status_t status;
    do {
        const Unlocked unlocked(elements);
        status = call();
    } while (status == PIQUANT_ERROR_MEMORY && release_kept() != 0);
    return status;
}

}  // namespace piquant_python
