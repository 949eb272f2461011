#include "device.hpp"

#if !defined(_WIN32)
#include <dlfcn.h>
#endif

#include <bit>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace piquant_python {
namespace {

// Of each thread, as the context is one for all.
thread_local const OnDevice* current = nullptr;

nb::object address(const void* p) {
    return nb::int_(reinterpret_cast<std::uintptr_t>(p));
}

// The bits of a number in the compute type.
std::int64_t pattern(double number, piquant_dtype_t dtype) {
    if (dtype == PIQUANT_FLOAT64) {
        return std::bit_cast<std::int64_t>(number);
    }
    return std::bit_cast<std::int32_t>(static_cast<float>(number));
}

// Numbers in the order in which _triton/__init__.py names them, and a tuple for each dimension.
nb::tuple described(const piquant_plan_t& plan) {
    nb::list dimensions;
    for (std::size_t d = 0; d < plan.rank; ++d) {
        const piquant_dimension_t& of = plan.dimensions[d];
        dimensions.append(nb::make_tuple(of.size, of.in_stride, of.out_stride, of.block, of.parameters));
    }
    return nb::make_tuple(
        static_cast<int>(plan.operation), static_cast<int>(plan.float_dtype), static_cast<int>(plan.code_dtype),
        address(plan.in), address(plan.out), plan.n, plan.blocks, pattern(plan.scale, plan.float_dtype),
        pattern(plan.inverse, plan.float_dtype), plan.zero_point, address(plan.scales), address(plan.zero_points),
        static_cast<int>(plan.scale_dtype), static_cast<int>(plan.zero_point_dtype), static_cast<int>(plan.round_mode),
        static_cast<int>(plan.reduce_op), plan.symmetric, plan.quant_min, plan.quant_max, plan.seed, plan.offset,
        plan.nan_scales, nb::tuple(dimensions));
}

// CUDA's driver, found in this process when it is first needed: those who launch have loaded it. Its functions, as cuda.h
// declares them.
class Driver {
public:
    static const Driver& get() {
        static const Driver driver;
        return driver;
    }

    void launch(int device, std::uintptr_t function, unsigned programs, unsigned threads, unsigned shared_bytes,
                std::uintptr_t stream, void** arguments) const {
        void* const wanted = context_of_device(device);
        void* before = nullptr;
        check(get_current_(&before));
        if (before != wanted) {
            check(set_current_(wanted));
        }
        const int result = launch_(reinterpret_cast<void*>(function), programs, 1, 1, threads, 1, 1, shared_bytes,
                                   reinterpret_cast<void*>(stream), arguments, nullptr);
        if (before != wanted && before != nullptr) {
            check(set_current_(before));
        }
        check(result);
    }

private:
    Driver() {
#if !defined(_WIN32)
        library_ = dlopen("libcuda.so.1", RTLD_NOW);
#endif
        find("cuLaunchKernel", launch_);
        find("cuCtxGetCurrent", get_current_);
        find("cuCtxSetCurrent", set_current_);
        find("cuDeviceGet", get_device_);
        find("cuDevicePrimaryCtxRetain", retain_);
        find("cuGetErrorName", name_of_);
    }

    template <class Function>
    void find(const char* name, Function*& function) {
        void* found = nullptr;
#if !defined(_WIN32)
        found = library_ != nullptr ? dlsym(library_, name) : nullptr;
#endif
        if (found == nullptr) {
            throw std::runtime_error(std::string("CUDA's driver, libcuda.so.1, has no ") + name + ", or is not there");
        }
        function = reinterpret_cast<Function*>(found);
    }

    void check(int result) const {
        if (result != 0) {
            const char* name = nullptr;
            (void)name_of_(result, &name);
            throw std::runtime_error(std::string("CUDA's driver says ") + (name != nullptr ? name : "nothing") + ", " +
                                     std::to_string(result));
        }
    }

    // The one that CUDA's runtime uses, and so torch.
    void* context_of_device(int device) const {
        static nb::ft_mutex mutex;
        static std::vector<void*> contexts;
        const nb::ft_lock_guard guard(mutex);
        if (contexts.size() <= static_cast<std::size_t>(device)) {
            contexts.resize(static_cast<std::size_t>(device) + 1);
        }
        void*& context = contexts[static_cast<std::size_t>(device)];
        if (context == nullptr) {
            int handle = 0;
            check(get_device_(&handle, device));
            check(retain_(&context, handle));
        }
        return context;
    }

    void* library_ = nullptr;
    int (*launch_)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**,
                   void**) = nullptr;
    int (*get_current_)(void**) = nullptr;
    int (*set_current_)(void*) = nullptr;
    int (*get_device_)(int*, int) = nullptr;
    int (*retain_)(void**, int) = nullptr;
    int (*name_of_)(int, const char**) = nullptr;
};

// Parameters of a kernel: integers of 64 bits, and addresses. What a kernel has beyond those that are given is null: Triton
// adds pointers to scratch memory, which ours do not use.
class Arguments {
public:
    void add(std::uint64_t value) {
        if (count_ == most) {
            throw std::runtime_error("a kernel has too many parameters");
        }
        values_[count_++] = value;
    }
    void add(const void* at) { add(static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(at))); }
    void add(std::int64_t value) { add(static_cast<std::uint64_t>(value)); }
    void** pointers() {
        for (std::size_t i = 0; i < count_ + added; ++i) {
            pointers_[i] = &values_[i];
        }
        return pointers_;
    }

private:
    static constexpr std::size_t most = 64;
    static constexpr std::size_t added = 4;
    std::uint64_t values_[most + added] = {};
    void* pointers_[most + added];
    std::size_t count_ = 0;
};

// A kernel that was compiled and loaded, and how plans of a form launch it.
struct Launch {
    std::uintptr_t function = 0;
    unsigned programs = 0;
    unsigned threads = 0;
    unsigned shared_bytes = 0;
    std::vector<std::uint64_t> arguments;  // the last ones
};

// What a launch depends on beside the addresses and numbers that are its arguments, as bytes. The same as `Form` of
// _triton/tiles.py.
std::string form_of(int device, const piquant_plan_t& plan) {
    std::uint64_t words[12 + 5 * PIQUANT_MAX_RANK];
    std::size_t count = 0;
    const auto beyond = [](const void* at) { return reinterpret_cast<std::uintptr_t>(at) % 16; };
    for (const std::uint64_t word : std::initializer_list<std::uint64_t>{
             static_cast<std::uint64_t>(device), static_cast<std::uint64_t>(plan.operation),
             static_cast<std::uint64_t>(plan.float_dtype), static_cast<std::uint64_t>(plan.code_dtype),
             (plan.blocks != 0 ? 2u : 0u) + (plan.zero_points != nullptr ? 1u : 0u),
             static_cast<std::uint64_t>(plan.scale_dtype), static_cast<std::uint64_t>(plan.zero_point_dtype),
             static_cast<std::uint64_t>(plan.round_mode) * 8 + static_cast<std::uint64_t>(plan.reduce_op) * 4 +
                 (plan.symmetric != 0 ? 2u : 0u) + (plan.nan_scales != 0 ? 1u : 0u),
             beyond(plan.in), beyond(plan.out), plan.offset % 8192}) {
        words[count++] = word;
    }
    for (std::size_t d = 0; d < plan.rank; ++d) {
        const piquant_dimension_t& of = plan.dimensions[d];
        for (const std::size_t word : {of.size, static_cast<std::size_t>(of.in_stride),
                                       static_cast<std::size_t>(of.out_stride), of.block, of.parameters}) {
            words[count++] = word;
        }
    }
    return std::string(reinterpret_cast<const char*>(words), count * sizeof *words);
}

// Launches by form.
class KnownLaunches {
public:
    // Made when it is first needed: what a library makes as it is loaded runs before import.cpp can look at the CPU.
    static KnownLaunches& get() {
        static KnownLaunches known;
        return known;
    }
    // Null for a form that was never launched. Others may add to what is known, or forget it, while this one is used.
    std::shared_ptr<const Launch> find(const std::string& form) {
        const nb::ft_lock_guard guard(mutex_);
        const auto found = launches_.find(form);
        return found != launches_.end() ? found->second : nullptr;
    }
    // Another thread may have added the same form.
    void add(std::string&& form, Launch&& launch) {
        auto added = std::make_shared<const Launch>(std::move(launch));
        constexpr std::size_t most = 4096;
        const nb::ft_lock_guard guard(mutex_);
        if (launches_.size() >= most) {
            launches_.clear();
        }
        launches_.insert_or_assign(std::move(form), std::move(added));
    }

private:
    nb::ft_mutex mutex_;
    std::unordered_map<std::string, std::shared_ptr<const Launch>> launches_;
};

// Remembers what the function of Python returned, if plans of this form are one launch.
void remember(std::string&& form, nb::handle told) {
    if (told.is_none()) {
        return;
    }
    Launch launch;
    launch.function = nb::cast<std::uintptr_t>(told[0]);
    launch.programs = nb::cast<unsigned>(told[1]);
    launch.threads = nb::cast<unsigned>(told[2]);
    launch.shared_bytes = nb::cast<unsigned>(told[3]);
    for (const nb::handle argument : told[4]) {
        launch.arguments.push_back(PyLong_AsUnsignedLongLongMask(argument.ptr()));
    }
    KnownLaunches::get().add(std::move(form), std::move(launch));
}

std::uintptr_t current_stream(int device) {
    static Found stream_of;
    PyObject* const function =
        stream_of.by([] { return nb::getattr(nb::module_::import_("torch._C"), "_cuda_getCurrentRawStream"); });
    return nb::cast<std::uintptr_t>(call(function, {nb::int_(device)}));
}

void launch_again(int device, const Launch& launch, const piquant_plan_t& plan) {
    Arguments arguments;
    for (const void* const at : {plan.in, static_cast<const void*>(plan.out), static_cast<const void*>(plan.scales),
                                 static_cast<const void*>(plan.zero_points)}) {
        arguments.add(at);
    }
    for (const std::int64_t number : {pattern(plan.scale, plan.float_dtype), pattern(plan.inverse, plan.float_dtype),
                                      plan.zero_point, plan.quant_min, plan.quant_max}) {
        arguments.add(number);
    }
    arguments.add(plan.seed);
    arguments.add(plan.offset);
    for (const std::uint64_t argument : launch.arguments) {
        arguments.add(argument);
    }
    Driver::get().launch(device, launch.function, launch.programs, launch.threads, launch.shared_bytes,
                         current_stream(device), arguments.pointers());
}

// The exception of the function stays set, for throw_status().
piquant_status_t run(void*, const piquant_plan_t* plan) {
    try {
        const int device = current->device;
        std::string form = form_of(device, *plan);
        if (const auto known = KnownLaunches::get().find(form); known != nullptr) {
            launch_again(device, *known, *plan);
        } else {
            remember(std::move(form), call(current->face.run, {nb::int_(device), described(*plan)}));
        }
        return PIQUANT_OK;
    } catch (nb::python_error& error) {
        error.restore();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return PIQUANT_ERROR_DEVICE;
}

piquant_context_t* make_context() {
    const piquant_device_t device{sizeof device, run, nullptr};
    piquant_context_t* made = nullptr;
    check(piquant_context_create_on_device(&made, &device), {});
    return made;
}

// Queues a kernel whose parameters are addresses and integers of 64 bits.
void launch(int device, std::uintptr_t function, unsigned programs, unsigned threads, unsigned shared_bytes,
            std::uintptr_t stream, const nb::tuple& given) {
    Arguments arguments;
    for (const nb::handle argument : given) {
        arguments.add(static_cast<std::uint64_t>(PyLong_AsUnsignedLongLongMask(argument.ptr())));
    }
    if (PyErr_Occurred() != nullptr) {
        throw nb::python_error();
    }
    Driver::get().launch(device, function, programs, threads, shared_bytes, stream, arguments.pointers());
}

}  // namespace

OnDevice::OnDevice(const Face& of, int number) : face(of), device(number), outer_(current) {
    current = this;
}
OnDevice::~OnDevice() {
    current = outer_;
}

piquant_context_t* OnDevice::context() const {
    static piquant_context_t* const context = make_context();  // for as long as the process lives
    return context;
}

void init_device(nb::module_& m) {
    using namespace nb::literals;
    m.def("launch", &launch, "device"_a, "function"_a, "programs"_a, "threads"_a, "shared_bytes"_a, "stream"_a,
          "arguments"_a,
          nb::sig("def launch(device: int, function: int, programs: int, threads: int, shared_bytes: int, "
                  "stream: int, arguments: tuple[int, ...]) -> None"),
          "Queues a kernel of CUDA whose parameters are addresses and integers of 64 bits.");
}

}  // namespace piquant_python
