// Every kernel of every instruction set at every length stays within its buffers, and gives what the scalar kernel
// gives: against guard pages on all sides, at rotating misalignments. And the test of the test: kernels that are wrong
// by one.
//
// Each length of each kernel meets 4 + 2 placements: both buffers against the guards behind them and before them,
// cached and non-temporal, the whole range of codes and a narrower one; and PIQUANT_GUARD_PAIRS (1 by default, 4096 is
// all) pairs of misalignments, taken in turn.
#include <gtest/gtest.h>

#include <sys/wait.h>

#include "guarded_call.hpp"
#include "share.hpp"

namespace piquant {
namespace {

constexpr size_t longest = 1025;
constexpr size_t alignments = 64;
constexpr size_t all_pairs = alignments * alignments;
constexpr size_t region_bytes = bytes_for(longest, 64) + 2 * alignments;

uint64_t mixed(uint64_t x) {
    x = (x ^ (x >> 31)) * 0x7fb5d329728ea185;
    x = (x ^ (x >> 27)) * 0x81dadef4bc2dd44d;
    return x ^ (x >> 33);
}

// A window of n elements into bytes made once: making them anew for each call would take most of the time.
class Pool {
public:
    explicit Pool(DType type) : bits_(info(type).bits) {
        std::mt19937_64 random(7);
        bytes_ = info(type).is_float ? float_data(type, elements, 0.1, random) : code_data(type, elements, random);
    }
    Bytes window(size_t n, uint64_t random) const {
        const auto first = bytes_.begin() + static_cast<long>(bytes_for(random % (elements - longest) / 4 * 4, bits_));
        return Bytes(first, first + static_cast<long>(bytes_for(n, bits_)));
    }

private:
    static constexpr size_t elements = 8192;
    int bits_;
    Bytes bytes_;
};

const Pool& pool(DType type) {
    static const std::vector<Pool> pools = [] {
        std::vector<Pool> made;
        for (int t = 0; t < dtype_count; ++t) {
            made.emplace_back(static_cast<DType>(t));
        }
        return made;
    }();
    return pools[static_cast<size_t>(type)];
}

struct Call {
    Placement placement;
    bool non_temporal;
    bool narrow;  // range of codes
};

std::vector<Call> calls(uint64_t turn, size_t pairs) {
    std::vector<Call> found = {{{true, 0, true, 0}, false, false},
                               {{true, 0, true, 0}, true, true},
                               {{false, 0, false, 0}, false, true},
                               {{false, 0, false, 0}, true, false}};
    for (size_t k = 0; k < pairs; ++k) {
        // An odd step meets all 4096.
        const uint64_t pair = (mixed(turn) + k * 1597) % all_pairs;
        const size_t in_shift = pair % alignments;
        const size_t out_shift = pair / alignments;
        const bool flag = (mixed(turn + k) & 1) != 0;
        found.push_back({{true, in_shift, false, out_shift}, flag, !flag});
        found.push_back({{false, in_shift, true, out_shift}, !flag, !flag});
    }
    return found;
}

KernelArgs arguments(const Instance& instance, size_t n, uint64_t random, bool narrow) {
    const DTypeInfo& type = info(instance.code_dtype);
    const uint64_t lowest = code_min(type.bits, type.is_signed);
    KernelArgs args{};
    if (!type.is_float) {
        const uint64_t middle = lowest + (uint64_t{1} << (type.bits - 1)) - 1;
        args = kernel_args(instance.float_dtype, instance.code_dtype, 0.1, random % 3 == 0 ? lowest : middle);
        args.quant_min += narrow;
        args.quant_max -= narrow && type.bits > 2;
    }
    args.n = n;
    args.seed = random;
    args.offset = 65536 - random % 2000;  // key periods end within some
    return args;
}

const std::vector<Kernel>& kernels_of(const Isa& isa) {
    static const std::vector<std::vector<Kernel>> kernels = [] {
        std::vector<std::vector<Kernel>> made;
        for (size_t i = 0; i < isa_count; ++i) {
            made.push_back(all_kernels(*isas[i].table, traffic_tables[i]));
        }
        return made;
    }();
    return kernels[static_cast<size_t>(&isa - isas)];
}

struct Sweep {
    const Instance& instance;
    Kernel expected;  // null where there is no result to compare
    std::vector<Subject> subjects;
    size_t pairs;
};

std::string failure(const Sweep& sweep, const Subject& subject, size_t n, const Call& call, const std::string& wrong) {
    const Placement& p = call.placement;
    return std::string(subject.isa) + ", " + sweep.instance.name + ", n " + std::to_string(n) + ": " + wrong +
           " (input " + (p.in_at_end ? "end - " : "start + ") + std::to_string(p.in_shift) + ", output " +
           (p.out_at_end ? "end - " : "start + ") + std::to_string(p.out_shift) +
           (call.non_temporal ? ", non-temporal" : "") + (call.narrow ? ", narrow range" : "") + ")";
}

// All calls of one length. Empty, or what went wrong.
std::string run(GuardedCaller& caller, const Sweep& sweep, size_t n) {
    const Instance& instance = sweep.instance;
    const uint64_t turn = instance.slot * (longest + 1) + n;
    const uint64_t random = mixed(turn);
    const Bytes in = pool(instance.from).window(n, random);
    const Bytes before = instance.shape != Shape::transform ? Bytes()
                         : info(instance.to).is_float       ? pool(instance.to).window(n, random >> 16)
                                                            : Bytes(bytes_for(n, instance.out_bits()), 0x5a);
    Bytes expected[2];
    if (sweep.expected != nullptr) {
        for (const bool narrow : {false, true}) {
            const Call call = {{true, 0, true, 0}, false, narrow};
            const Subject model = {"model", sweep.expected};
            const std::string wrong = caller.call(instance, model, arguments(instance, n, random, narrow), in, before,
                                                  call.placement, expected[narrow]);
            if (!wrong.empty()) {
                return failure(sweep, model, n, call, wrong);
            }
        }
    }
    Bytes actual;
    for (const Call& call : calls(turn, sweep.pairs)) {
        KernelArgs args = arguments(instance, n, random, call.narrow);
        args.non_temporal = call.non_temporal;
        args.prefetch_distance = (random >> 24) % 2 * 8192;  // prefetches reach into the guards, and must not fault
        for (size_t s = 0; s < sweep.subjects.size(); ++s) {
            std::string wrong = caller.call(instance, sweep.subjects[s], args, in, before, call.placement, actual);
            if (wrong.empty() && sweep.expected != nullptr && actual != expected[call.narrow]) {
                wrong = "differs from the scalar kernel";
            }
            if (!wrong.empty()) {
                return failure(sweep, sweep.subjects[s], n, call, wrong);
            }
        }
    }
    return {};
}

TEST(GuardPages, EveryKernelOfEveryIsaAtEveryLength) {
    report_faults();
    const std::vector<Instance> instances = all_instances();
    const std::vector<const Isa*> here = all_isas();
    const Share part = share(1);
    const size_t pairs = std::min<size_t>(number_from_environment("PIQUANT_GUARD_PAIRS", 1), all_pairs);
    // Lengths done, by instance and instruction set; each instance is one thread's.
    std::vector<std::vector<unsigned>> executed(instances.size(), std::vector<unsigned>(here.size()));
    (void)pool(DType::float16);
    parallel_for(instances.size(), [&](size_t i) {
        static thread_local GuardedCaller caller(region_bytes);
        const Instance& instance = instances[i];
        Sweep sweep = {instance, nullptr, {}, pairs};
        for (const Isa* isa : here) {
            if (const Kernel kernel = kernels_of(*isa)[instance.slot]; kernel != nullptr) {
                sweep.subjects.push_back({isa->name, kernel});
            }
        }
        if (instance.computes) {
            sweep.expected = kernels_of(isas[isa_count - 1])[instance.slot];
        }
        for (size_t n = 0; n <= longest && !testing::Test::HasFailure(); ++n) {
            if (!part.has(i + n)) {
                continue;
            }
            if (const std::string wrong = run(caller, sweep, n); !wrong.empty()) {
                ADD_FAILURE() << wrong;
            }
            for (size_t k = 0; k < here.size(); ++k) {
                executed[i][k] += kernels_of(*here[k])[instance.slot] != nullptr;
            }
        }
    });
    if (testing::Test::HasFailure()) {
        return;  // and so not all has run
    }
    // The list of what has to have run comes from the tables alone: every kernel in them.
    const unsigned least = static_cast<unsigned>((longest + 1) / part.parts);
    size_t total = 0;
    for (size_t k = 0; k < here.size(); ++k) {
        const std::vector<Kernel> kernels = kernels_of(*here[k]);
        std::vector<unsigned> runs(slot_count);
        for (size_t i = 0; i < instances.size(); ++i) {
            runs[instances[i].slot] += executed[i][k];
        }
        for (size_t slot = 0; slot < slot_count; ++slot) {
            if (kernels[slot] != nullptr) {
                EXPECT_GE(runs[slot], std::max(least, 1u)) << here[k]->name << ": kernel in slot " << slot;
                ++total;
            }
        }
    }
    std::printf("%zu kernels on %zu instruction sets, each at %u lengths or more\n", total, here.size(), least);
}

// Kernels that are wrong by one element, or one byte, around one that is right.
enum class Fault {
    none,
    reads_behind,
    reads_before,
    writes_behind,
    writes_before,
    one_more,
    one_earlier,
    writes_input,
    leaves_padding
};

template <Fault F>
void faulty(const KernelArgs& a) {
    const KernelTable& best = *isas[select_isa(cpu_features(), nullptr)].table;
    const size_t out_bytes = bytes_for(a.n, 4);
    auto* in = static_cast<volatile float*>(const_cast<void*>(a.in));
    auto* out = static_cast<volatile unsigned char*>(a.out);
    KernelArgs args = a;
    if (F == Fault::one_more) {
        args.n += 1;
    } else if (F == Fault::one_earlier) {
        args.in = static_cast<const float*>(a.in) - 1;
    }
    quantize_kernel(best, DType::float32, DType::uint4, 0)(args);
    switch (F) {
        case Fault::reads_behind: (void)*reinterpret_cast<volatile unsigned char*>(&in[a.n]); break;
        case Fault::reads_before: (void)reinterpret_cast<volatile unsigned char*>(in)[-1]; break;
        case Fault::writes_behind: out[out_bytes] = 0; break;
        case Fault::writes_before: out[-1] = 0; break;
        case Fault::writes_input:
            if (a.n != 0) {
                in[0] = in[0];
            }
            break;
        case Fault::leaves_padding:
            if (a.n % 2 != 0) {
                out[out_bytes - 1] = static_cast<unsigned char>(out[out_bytes - 1] | 0x80);
            }
            break;
        default: break;
    }
}

Instance instance_named(const std::string& name) {
    for (const Instance& instance : all_instances()) {
        if (instance.name == name) {
            return instance;
        }
    }
    std::abort();
}

// For a child process. It ends by a fault, or tells the failure and exits with 1; 0 means that nothing was noticed.
void sweep_and_exit(Kernel kernel) {
    report_faults();
    const Instance instance = instance_named("float32 -> uint4 nearest");
    GuardedCaller caller(region_bytes);
    const Sweep sweep = {
        instance, quantize_kernel(scalar_table(), DType::float32, DType::uint4, 0), {{"faulty", kernel}}, 1};
    for (size_t n = 0; n <= longest; ++n) {
        if (const std::string wrong = run(caller, sweep, n); !wrong.empty()) {
            std::fprintf(stderr, "%s\n", wrong.c_str());
            std::exit(1);
        }
    }
    std::exit(0);
}

void call_and_exit(Kernel kernel, const Placement& placement) {
    report_faults();
    const Instance instance = instance_named("float32 -> uint4 nearest");
    GuardedCaller caller(region_bytes);
    constexpr size_t n = 37;
    Bytes result;
    const std::string wrong = caller.call(instance, {"faulty", kernel}, arguments(instance, n, 1, false),
                                          pool(DType::float32).window(n, 0), Bytes(bytes_for(n, 4)), placement, result);
    std::fprintf(stderr, "%s\n", wrong.c_str());
    std::exit(wrong.empty() ? 0 : 1);
}

bool faulted(int status) {
    return WIFSIGNALED(status) && (WTERMSIG(status) == SIGSEGV || WTERMSIG(status) == SIGBUS);
}

bool noticed(int status) {
    return faulted(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

TEST(GuardPages, FindWhatIsWrongByOne) {
    EXPECT_EXIT(sweep_and_exit(faulty<Fault::none>), testing::ExitedWithCode(0), "");
    EXPECT_EXIT(sweep_and_exit(faulty<Fault::reads_behind>), faulted, "fault: faulty, float32 -> uint4 nearest");
    EXPECT_EXIT(sweep_and_exit(faulty<Fault::reads_before>), faulted, "fault: faulty, float32 -> uint4 nearest");
    EXPECT_EXIT(sweep_and_exit(faulty<Fault::writes_behind>), noticed, "faulty");
    EXPECT_EXIT(sweep_and_exit(faulty<Fault::writes_before>), noticed, "faulty");
    EXPECT_EXIT(sweep_and_exit(faulty<Fault::one_more>), noticed, "faulty");
    EXPECT_EXIT(sweep_and_exit(faulty<Fault::one_earlier>), noticed, "faulty");
    EXPECT_EXIT(sweep_and_exit(faulty<Fault::writes_input>), faulted, "faulty");
    EXPECT_EXIT(sweep_and_exit(faulty<Fault::leaves_padding>), noticed, "faulty");
}

// Each by the means that is there for it: the guard where the buffer ends, the canary where it does not.
TEST(GuardPages, GuardsAndCanariesEachFindTheirOwn) {
    const Placement inside = {false, 128, false, 128};
    const Placement at_start = {false, 0, false, 0};
    const Placement at_end = {true, 0, true, 0};
    EXPECT_EXIT(call_and_exit(faulty<Fault::none>, inside), testing::ExitedWithCode(0), "");
    EXPECT_EXIT(call_and_exit(faulty<Fault::reads_behind>, at_end), faulted, "at input \\+148 of 148 bytes");
    EXPECT_EXIT(call_and_exit(faulty<Fault::reads_before>, at_start), faulted, "at input -1 of 148 bytes");
    EXPECT_EXIT(call_and_exit(faulty<Fault::writes_behind>, at_end), faulted, "output \\+19 of 19 bytes");
    EXPECT_EXIT(call_and_exit(faulty<Fault::writes_before>, at_start), faulted, "output -1 of 19 bytes");
    EXPECT_EXIT(call_and_exit(faulty<Fault::writes_behind>, inside), noticed, "wrote beside the output");
    EXPECT_EXIT(call_and_exit(faulty<Fault::writes_before>, inside), noticed, "wrote beside the output");
    EXPECT_EXIT(call_and_exit(faulty<Fault::writes_input>, inside), faulted, "at input \\+0 of 148 bytes");
    EXPECT_EXIT(call_and_exit(faulty<Fault::leaves_padding>, inside), noticed, "padding is not zero");
}

}  // namespace
}  // namespace piquant
