// Memory that stops whoever touches it until it is released. As the input of a call it puts threads inside a kernel for
// certain, and for as long as a test likes.
#pragma once

#include <atomic>
#include <cstddef>
#include <thread>

#include "platform.hpp"

namespace piquant {

class HeldMemory {
public:
    explicit HeldMemory(size_t bytes) : memory_(reserve_pages(bytes)), bytes_(bytes) {
        current = this;
        before_ = on_fault([](const void* at) {
            if (!current->holds(at)) {
                return false;
            }
            ++current->stopped_;
            while (!current->released_.load()) {
                std::this_thread::yield();
            }
            return true;
        });
    }
    ~HeldMemory() {
        on_fault(before_);
        release_pages(memory_, bytes_);
    }
    HeldMemory(const HeldMemory&) = delete;
    HeldMemory& operator=(const HeldMemory&) = delete;

    const float* floats() const { return reinterpret_cast<const float*>(memory_); }

    void wait_for(size_t threads) const {
        while (stopped_.load() < threads) {
            std::this_thread::yield();
        }
    }
    // From now on it is memory like any other, all zero.
    void release() {
        set_access(memory_, bytes_, Access::read);
        released_ = true;
    }

private:
    bool holds(const void* p) const { return p >= memory_ && p < memory_ + bytes_; }

    static inline HeldMemory* current = nullptr;

    unsigned char* memory_;
    size_t bytes_;
    FaultHandler before_;
    std::atomic<size_t> stopped_{0};
    std::atomic<bool> released_{false};
};

}  // namespace piquant
