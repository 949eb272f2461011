// Every kernel of every instruction set equals the scalar one bit for bit, and writes nothing but its output.
#include <gtest/gtest.h>

#include "kernel_data.hpp"

namespace piquant {
namespace {

constexpr size_t margin = 192;

// Runs `kernel` into a buffer with canaries around the output, at an offset from a 64-byte line.
Bytes run(Kernel kernel, KernelArgs args, const Bytes& in, size_t in_shift, const Bytes& out_before, size_t out_shift) {
    Bytes in_copy(in.size() + in_shift + 64);
    auto* in_start = in_copy.data() + (64 - reinterpret_cast<uintptr_t>(in_copy.data()) % 64) % 64 + in_shift;
    std::copy(in.begin(), in.end(), in_start);
    Bytes out(out_before.size() + 2 * margin + 128, 0xa5);
    const size_t start = margin + (64 - reinterpret_cast<uintptr_t>(out.data() + margin) % 64) % 64 + out_shift;
    std::copy(out_before.begin(), out_before.end(), out.data() + start);
    args.in = in_start;
    args.out = out.data() + start;
    kernel(args);
    for (size_t i = 0; i < out.size(); ++i) {
        if ((i < start || i >= start + out_before.size()) && out[i] != 0xa5) {
            ADD_FAILURE() << "wrote outside the output, at byte " << static_cast<long>(i) - static_cast<long>(start);
            break;
        }
    }
    return Bytes(out.data() + start, out.data() + start + out_before.size());
}

struct Cell {
    DType from;
    DType to;
    DType real;
    DType code;
    Kernel expected;
    std::vector<Kernel> actual;  // of the vector sets
    bool stochastic;
};

// One run of the scalar kernel, which takes the longest, for all vector sets.
void compare(const Cell& cell, size_t n, double scale, uint64_t zero_point, std::mt19937_64& random) {
    const DTypeInfo& type = info(cell.code);
    KernelArgs args = kernel_args(cell.real, cell.code, scale, zero_point);
    args.n = n;
    args.seed = random();
    args.offset = random() % 3 == 0 ? random() : random() % 200000;
    args.non_temporal = random() % 2 == 0;
    args.prefetch_distance = random() % 3 * 2048;
    if (random() % 3 == 0) {
        args.quant_min += 1;
        args.quant_max -= type.bits == 2 ? 0 : 1 + random() % 3;
    }
    const Bytes in =
        info(cell.from).is_float ? float_data(cell.from, n, scale, random) : code_data(cell.from, n, random);
    const Bytes before = info(cell.to).is_float ? float_data(cell.to, n, scale * 10, random)
                                                : Bytes(bytes_for(n, info(cell.to).bits), 0x5a);
    const size_t in_shift = random() % 2 == 0 ? 0 : random() % 64;
    const size_t out_shift = random() % 2 == 0 ? 0 : random() % 64;
    const Bytes expected = run(cell.expected, args, in, in_shift, before, out_shift);
    for (size_t k = 0; k < cell.actual.size(); ++k) {
        const Bytes actual = run(cell.actual[k], args, in, in_shift, before, out_shift);
        if (expected == actual) {
            continue;
        }
        size_t i = 0;
        while (expected[i] == actual[i]) {
            ++i;
        }
        ADD_FAILURE() << vector_isas()[k]->name << " " << info(cell.from).name << " -> " << info(cell.to).name
                      << " via " << type.name << (cell.stochastic ? " stochastic" : " nearest") << ": n " << n
                      << ", scale " << scale << ", zero point " << static_cast<int64_t>(zero_point) << ", byte " << i
                      << " is " << int{actual[i]} << ", not " << int{expected[i]};
    }
}

// A kernel of each vector set.
template <class Choose>
std::vector<Kernel> of_vector_isas(const Choose& kernel) {
    std::vector<Kernel> found;
    for (const Isa* isa : vector_isas()) {
        found.push_back(kernel(*isa->table));
    }
    return found;
}

void sweep(const Cell& cell, uint64_t seed) {
    std::mt19937_64 random(seed);
    const DTypeInfo& type = info(cell.code);
    const uint64_t lowest = code_min(type.bits, type.is_signed);
    const uint64_t highest = code_max(type.bits, type.is_signed);
    const uint64_t zeros[] = {0, lowest, highest, lowest + (highest - lowest) / 2,
                              lowest + random() % (highest - lowest)};
    const double scales[] = {1.0, 0.1, 0x1p-20, 3e-5, 1e3, 1.2e-38, 1e38};
    for (size_t n = 0; n <= 1025 && !testing::Test::HasFailure(); n += n < 300 ? 1 : 29) {
        compare(cell, n, scales[random() % 7], zeros[random() % 5], random);
    }
    for (size_t n : std::initializer_list<size_t>{4096 + 3, 70000 + 5}) {
        compare(cell, n, scales[random() % 7], zeros[random() % 5], random);
    }
}

class IsaMatrix : public testing::TestWithParam<std::tuple<int, int>> {
protected:
    DType real() const { return static_cast<DType>(std::get<0>(GetParam())); }
    DType code() const { return static_cast<DType>(float_count + std::get<1>(GetParam())); }
};

TEST_P(IsaMatrix, Quantize) {
    for (int round = 0; round < 2; ++round) {
        const auto kernel = [=, this](const KernelTable& table) {
            return quantize_kernel(table, real(), code(), round);
        };
        sweep({real(), code(), real(), code(), kernel(scalar_table()), of_vector_isas(kernel), round == 1}, 1);
    }
}

TEST_P(IsaMatrix, Dequantize) {
    for (int reduce = 0; reduce < 2; ++reduce) {
        const auto kernel = [=, this](const KernelTable& table) {
            return dequantize_kernel(table, code(), real(), reduce);
        };
        sweep({code(), real(), real(), code(), kernel(scalar_table()), of_vector_isas(kernel), false}, 2);
    }
}

TEST_P(IsaMatrix, QuantizeDequantize) {
    for (int mode = 0; mode < 4; ++mode) {
        const auto kernel = [=, this](const KernelTable& table) {
            return quantize_dequantize_kernel(table, real(), code(), mode / 2, mode % 2);
        };
        sweep({real(), real(), real(), code(), kernel(scalar_table()), of_vector_isas(kernel), mode / 2 == 1}, 3);
    }
}

INSTANTIATE_TEST_SUITE_P(AllPairs, IsaMatrix,
                         testing::Combine(testing::Range(0, float_count), testing::Range(0, code_count)),
                         [](const auto& instance) {
                             return std::string(dtype_infos[std::get<0>(instance.param)].name) + "_" +
                                    dtype_infos[float_count + std::get<1>(instance.param)].name;
                         });

// Calls check(f, type, kernel, what) for every float type of every vector set.
template <class Check>
void for_every_minmax(Check check) {
    for (const Isa* isa : vector_isas()) {
        for (int f = 0; f < float_count; ++f) {
            check(f, static_cast<DType>(f), isa->table->minmax[f], std::string(isa->name) + " " + dtype_infos[f].name);
        }
    }
}

TEST(IsaMinMax, EqualsScalar) {
    std::mt19937_64 random(4);
    for_every_minmax([&](int f, DType type, MinMaxKernel minmax, const std::string& what) {
        const size_t size = bytes_for(1, info(type).bits);
        for (size_t n = 1; n <= 1200; n += n < 300 ? 1 : 37) {
            Bytes data = float_data(type, n, 1.0, random);
            if (n % 2 == 0) {  // without NaN, so that lo and hi mean something
                for (size_t i = 0; i < n; ++i) {
                    unsigned char* p = data.data() + i * size;
                    p[size - 1] = static_cast<unsigned char>((p[size - 1] & 0x80) | 0x40);  // 2.0 .. some: finite
                    p[size - 2] = static_cast<unsigned char>(p[size - 2] & 0x0f);
                }
            }
            const Extent a = scalar_table().minmax[f](data.data(), n);
            const Extent b = minmax(data.data(), n);
            const bool finite_a = !a.has_nan && std::isfinite(a.lo) && std::isfinite(a.hi);
            const bool finite_b = !b.has_nan && std::isfinite(b.lo) && std::isfinite(b.hi);
            ASSERT_EQ(finite_a, finite_b) << what << " n " << n;
            if (finite_a) {
                ASSERT_EQ(a.lo, b.lo) << what << " n " << n;
                ASSERT_EQ(a.hi, b.hi) << what << " n " << n;
            }
        }
    });
}

void write_real(DType type, unsigned char* p, double x) {
    const float f = static_cast<float>(x);
    const uint16_t h = type == DType::float16 ? float32_to_float16(f) : float32_to_bfloat16(f);
    const void* from = type == DType::float64   ? static_cast<const void*>(&x)
                       : type == DType::float32 ? static_cast<const void*>(&f)
                                                : &h;
    std::memcpy(p, from, bytes_for(1, info(type).bits));
}

// One odd element among ones, at every position: no lane and no accumulator is left out.
TEST(IsaMinMax, FindsOneElementAnywhere) {
    constexpr size_t n = 16 * 16 + 5;  // two blocks of the widest registers, and a rest
    for_every_minmax([](int, DType type, MinMaxKernel minmax, const std::string& what) {
        const size_t size = bytes_for(1, info(type).bits);
        Bytes data(n * size);
        for (size_t i = 0; i < n; ++i) {
            write_real(type, data.data() + i * size, 1.0);
        }
        for (size_t i = 0; i < n; ++i) {
            for (const double odd : {-2.0, 3.0, double{INFINITY}, -double{INFINITY}, double{NAN}, -double{NAN}}) {
                write_real(type, data.data() + i * size, odd);
                const Extent e = minmax(data.data(), n);
                const bool finite = !e.has_nan && std::isfinite(e.lo) && std::isfinite(e.hi);
                ASSERT_EQ(finite, std::isfinite(odd)) << what << " at " << i;
                if (finite) {
                    ASSERT_EQ(e.lo, std::fmin(odd, 0.0)) << what << " at " << i;
                    ASSERT_EQ(e.hi, std::fmax(odd, 1.0)) << what << " at " << i;
                }
            }
            write_real(type, data.data() + i * size, 1.0);
        }
    });
}

// NaNs of both signs, that meet in one lane or do not, in either order.
TEST(IsaMinMax, FindsTwoNans) {
    constexpr size_t n = 4 * 32;  // at least a block of every set
    for_every_minmax([](int, DType type, MinMaxKernel minmax, const std::string& what) {
        const size_t size = bytes_for(1, info(type).bits);
        for (size_t i = 0; i < n; ++i) {
            for (size_t j = 0; j < n; ++j) {
                Bytes data(n * size);
                write_real(type, data.data() + j * size, -NAN);
                write_real(type, data.data() + i * size, NAN);
                ASSERT_TRUE(minmax(data.data(), n).has_nan) << what << " at " << i << " and " << j;
            }
        }
    });
}

}  // namespace
}  // namespace piquant
