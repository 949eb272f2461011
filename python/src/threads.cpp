#include "module.hpp"

#if !defined(_WIN32)
#include <dlfcn.h>
#endif

// torch's threads. From 2.10 on torch has functions to run on them in its stable C interface
// (torch/csrc/stable/c/shim.h); they are found in the library that is loaded, and none is linked. torch's team spins for
// some milliseconds after each of its operations: a second team would wait for the processors for as long.
namespace piquant_python {
namespace {

using Body = void (*)(std::int64_t begin, std::int64_t end, void* context);
using ParallelFor = std::int32_t (*)(std::int64_t begin, std::int64_t end, std::int64_t grain, Body body,
                                     void* context);
using GetNumThreads = std::int32_t (*)(std::uint32_t* count);

ParallelFor parallel_for = nullptr;
GetNumThreads get_num_threads = nullptr;

std::size_t count(void*) {
    std::uint32_t n = 0;
    return get_num_threads(&n) == 0 ? n : 0;
}

// One range for each thread, of one index where there are as many threads. Inside a parallel region of torch's the caller
// gets all of them, one after the other.
int run(void*, std::size_t n, void (*task)(void* job, std::size_t i), void* job) {
    struct Task {
        void (*function)(void* job, std::size_t i);
        void* job;
    } context = {task, job};
    return parallel_for(
        0, static_cast<std::int64_t>(n), 1,
        [](std::int64_t begin, std::int64_t end, void* opaque) {
            const auto& t = *static_cast<const Task*>(opaque);
            for (std::int64_t i = begin; i < end; ++i) {
                t.function(t.job, static_cast<std::size_t>(i));
            }
        },
        &context);
}

constexpr piquant_threads_t torch_threads = {sizeof(piquant_threads_t), count, run, nullptr};

bool find_torch_threads(const char* library) {
#if defined(_WIN32)
    (void)library;
    return false;
#else
    void* const loaded = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
    if (loaded == nullptr) {
        return false;
    }
    parallel_for = reinterpret_cast<ParallelFor>(dlsym(loaded, "torch_parallel_for"));
    get_num_threads = reinterpret_cast<GetNumThreads>(dlsym(loaded, "torch_get_num_threads"));
    return parallel_for != nullptr && get_num_threads != nullptr;
#endif
}

}  // namespace

const piquant_threads_t* threads_of_torch() {
    return parallel_for != nullptr && get_num_threads != nullptr ? &torch_threads : nullptr;
}

void init_threads(nb::module_& m) {
    m.def("find_torch_threads", &find_torch_threads, nb::arg("library"),
          "Finds what runs on torch's threads in its library, which is loaded; False for a torch that has no such "
          "thing.");
}

}  // namespace piquant_python
