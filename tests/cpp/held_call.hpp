// Memory that stops whoever touches it until it is released. As the input of a call it puts threads inside a kernel for
// certain, and for as long as a test likes.
#pragma once

#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cstddef>
#include <thread>

namespace piquant {

class HeldMemory {
public:
    explicit HeldMemory(size_t bytes) : bytes_(bytes) {
        memory_ = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        current = this;
        struct sigaction action = {};
        action.sa_sigaction = [](int signal, siginfo_t* info, void*) {
            if (!current->holds(info->si_addr)) {
                ::signal(signal, SIG_DFL);  // a true fault: it comes again, and ends the process
                return;
            }
            ++current->stopped_;
            while (!current->released_.load()) {
                std::this_thread::yield();
            }
        };
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGSEGV, &action, &before_);
    }
    ~HeldMemory() {
        sigaction(SIGSEGV, &before_, nullptr);
        munmap(memory_, bytes_);
    }
    HeldMemory(const HeldMemory&) = delete;
    HeldMemory& operator=(const HeldMemory&) = delete;

    const float* floats() const { return static_cast<const float*>(memory_); }

    void wait_for(size_t threads) const {
        while (stopped_.load() < threads) {
            std::this_thread::yield();
        }
    }
    // From now on it is memory like any other, all zero.
    void release() {
        mprotect(memory_, bytes_, PROT_READ);
        released_ = true;
    }

private:
    bool holds(const void* p) const { return p >= memory_ && p < static_cast<const char*>(memory_) + bytes_; }

    static inline HeldMemory* current = nullptr;

    void* memory_;
    size_t bytes_;
    struct sigaction before_;
    std::atomic<size_t> stopped_{0};
    std::atomic<bool> released_{false};
};

}  // namespace piquant
