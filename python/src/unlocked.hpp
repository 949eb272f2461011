// Kernels run without the interpreter's lock.
#pragma once

#include <Python.h>

#include <chrono>
#include <cstddef>
#include <thread>

namespace piquant_python {

// Takes the lock back. Once the interpreter has begun to exit, Python before 3.14 ends a daemon thread here with
// pthread_exit, whose unwinding would call std::terminate at the first noexcept function. Such a thread sleeps instead
// until the process is gone, as it does from 3.14 on.
inline void lock_again(PyThreadState* state) {
    try {
        PyEval_RestoreThread(state);
    } catch (...) {
        for (;;) {
            std::this_thread::sleep_for(std::chrono::hours(1));
        }
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

}  // namespace piquant_python
