// Preloaded: makes allocations of C++ code and thread creations fail on demand; see test_resources.py.
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <new>

namespace {
thread_local long allocations_left = -1;  // of this thread; -1: any number
thread_local bool only_one = false;       // those after the failing one succeed
long threads_left = -1;
long failures = 0;

// nanobind ends the process where its register of objects cannot grow. Its code and that of the module are one library.
bool may_fail(const void* caller) {
    Dl_info info;
    return dladdr(caller, &info) == 0 || strstr(info.dli_fname, "/_native") == nullptr;
}

void* allocate(size_t size, size_t alignment, const void* caller) {
    if (allocations_left >= 0 && may_fail(caller) && allocations_left-- == 0) {
        ++failures;
        allocations_left = only_one ? -1 : 0;
        throw std::bad_alloc();
    }
    void* p = nullptr;
    if (posix_memalign(&p, alignment < sizeof p ? sizeof p : alignment, size) != 0) {
        throw std::bad_alloc();
    }
    return p;
}
}  // namespace

void* operator new(size_t size) {
    return allocate(size, __STDCPP_DEFAULT_NEW_ALIGNMENT__, __builtin_return_address(0));
}
void* operator new(size_t size, std::align_val_t alignment) {
    return allocate(size, static_cast<size_t>(alignment), __builtin_return_address(0));
}
void operator delete(void* p) noexcept {
    free(p);
}
void operator delete(void* p, size_t) noexcept {
    free(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
    free(p);
}
void operator delete(void* p, size_t, std::align_val_t) noexcept {
    free(p);
}

extern "C" {

void fail_after(long allocations, int one, long threads) {
    failures = 0;
    only_one = one != 0;
    threads_left = threads;
    allocations_left = allocations;
}

// Ends it, and tells how many failures there were.
long stop_failing() {
    allocations_left = -1;
    threads_left = -1;
    return failures;
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                   void* argument) noexcept {
    using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
    static const auto real = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
    if (threads_left == 0) {
        ++failures;
        return EAGAIN;
    }
    if (threads_left > 0) {
        --threads_left;
    }
    return real(thread, attributes, start, argument);
}
}
