// Memory with inaccessible pages on both sides, and who touched them.
#pragma once

#include <cstdio>
#include <string>

#include "platform.hpp"

namespace piquant {

// The same bytes twice: in the view of a kernel, between guards and read-only if wanted, and always writable for the
// test.
class GuardedRegion {
public:
    GuardedRegion(size_t bytes, bool writable)
        : bytes_((bytes + page_bytes() - 1) / page_bytes() * page_bytes()),
          views_(map_twice(bytes_, guard, writable ? Access::write : Access::read)) {}
    ~GuardedRegion() { unmap_twice(views_, bytes_, guard); }
    GuardedRegion(const GuardedRegion&) = delete;
    GuardedRegion& operator=(const GuardedRegion&) = delete;

    unsigned char* view() const { return views_.guarded; }
    unsigned char* data() const { return views_.writable; }
    size_t size() const { return bytes_; }

private:
    static constexpr size_t guard = size_t{1} << 18;  // wider than any stride of a kernel

    size_t bytes_;
    TwoViews views_;
};

// What a fault is told with. Set around each call, by each thread for itself.
struct GuardedAccess {
    const char* isa;
    const char* kernel;
    size_t n;
    const unsigned char* in;
    size_t in_bytes;
    const unsigned char* out;
    size_t out_bytes;
};
inline thread_local const GuardedAccess* guarded_access = nullptr;

// Says which call a fault came from, then lets it end the process.
inline void report_faults() {
    on_fault([](const void* fault) {
        const auto* at = static_cast<const unsigned char*>(fault);
        if (const GuardedAccess* a = guarded_access) {
            char text[400];
            std::snprintf(text, sizeof text,
                          "\nfault: %s, %s, n %zu: at input %+td of %zu bytes, output %+td of %zu bytes\n", a->isa,
                          a->kernel, a->n, at - a->in, a->in_bytes, at - a->out, a->out_bytes);
            write_error(text);
        }
        return false;
    });
}

}  // namespace piquant
