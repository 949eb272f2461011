// Memory of a call beyond the arrays.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <memory>

namespace piquant {

// As many bytes for every thread, each from the start of a cache line on.
class Scratch {
public:
    Scratch(size_t bytes, size_t threads)
        : bytes_(bytes % line == 0 ? bytes : (bytes / line + 1) * line),
          memory_(new unsigned char[bytes_ * threads + line]) {}

    unsigned char* of(size_t participant) const {
        unsigned char* const p = memory_.get();
        return p + (line - reinterpret_cast<uintptr_t>(p) % line) % line + participant * bytes_;
    }

private:
    static constexpr size_t line = 64;
    size_t bytes_;
    std::unique_ptr<unsigned char[]> memory_;
};

}  // namespace piquant
