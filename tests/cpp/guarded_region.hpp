// Memory with inaccessible pages on both sides, and who touched them.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace piquant {

inline size_t page_bytes() {
    static const auto bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return bytes;
}

inline void* checked_map(void* at, size_t bytes, int protection, int flags, int file) {
    void* p = mmap(at, bytes, protection, flags, file, 0);
    if (p == MAP_FAILED) {
        std::perror("mmap");
        std::abort();
    }
    return p;
}

// The same bytes twice: in the view of a kernel, between guards and read-only if wanted, and always writable for the
// test.
class GuardedRegion {
public:
    GuardedRegion(size_t bytes, bool writable) : bytes_((bytes + page_bytes() - 1) / page_bytes() * page_bytes()) {
        const int file = memfd_create("piquant", 0);
        if (file < 0 || ftruncate(file, static_cast<off_t>(bytes_)) != 0) {
            std::perror("memfd_create");
            std::abort();
        }
        whole_ = checked_map(nullptr, bytes_ + 2 * guard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
        view_ = static_cast<unsigned char*>(whole_) + guard;
        checked_map(view_, bytes_, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | MAP_FIXED, file);
        data_ = static_cast<unsigned char*>(checked_map(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, file));
        close(file);
    }
    ~GuardedRegion() {
        munmap(whole_, bytes_ + 2 * guard);
        munmap(data_, bytes_);
    }
    GuardedRegion(const GuardedRegion&) = delete;
    GuardedRegion& operator=(const GuardedRegion&) = delete;

    unsigned char* view() const { return view_; }
    unsigned char* data() const { return data_; }
    size_t size() const { return bytes_; }

private:
    static constexpr size_t guard = size_t{1} << 18;  // wider than any stride of a kernel

    size_t bytes_;
    void* whole_;
    unsigned char* view_;
    unsigned char* data_;
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
    struct sigaction action = {};
    action.sa_flags = static_cast<int>(SA_SIGINFO | SA_RESETHAND);
    action.sa_sigaction = [](int, siginfo_t* fault, void*) {
        const auto* at = static_cast<const unsigned char*>(fault->si_addr);
        if (const GuardedAccess* a = guarded_access) {
            char text[400];
            const int length = std::snprintf(
                text, sizeof text, "\nfault: %s, %s, n %zu: at input %+td of %zu bytes, output %+td of %zu bytes\n",
                a->isa, a->kernel, a->n, at - a->in, a->in_bytes, at - a->out, a->out_bytes);
            if (write(STDERR_FILENO, text, static_cast<size_t>(length)) < 0) {
                return;
            }
        }
    };
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
}

}  // namespace piquant
