// Blocks: a call gives, block by block, what the function for one scale gives on the block by itself, whatever the shape,
// the blocks, the layout, the threads and the instruction set.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "core/float_formats.hpp"
#include "placed.hpp"
#include "sanitizers.hpp"
#include "support.hpp"

namespace piquant {
namespace {

using Shape = std::vector<size_t>;

piquant_dtype_t dtype(DType type) {
    return static_cast<piquant_dtype_t>(type);
}

constexpr DType float_types[] = {DType::float16, DType::bfloat16, DType::float32, DType::float64};

DType any_code(Random& random) {
    return static_cast<DType>(float_count + static_cast<int>(pick(random, code_count + unpacked_count - 1)));
}
bool is_unpacked(DType type) {
    return static_cast<int>(type) >= float_count + code_count;
}
// The type of as many bits that shares bytes.
DType packed_type(DType type) {
    return is_unpacked(type) ? static_cast<DType>(static_cast<int>(type) - code_count) : type;
}

// One element of contiguous rows, as eight bytes of which the format's are used; of fields, the field.
uint64_t get(const Bytes& rows, DType type, size_t row, size_t index) {
    const Format format = info(type).format;
    const unsigned char* const p = &rows[index / row * row_bytes(type, row)];
    uint64_t value = 0;
    if (format.elements == 1) {
        std::memcpy(&value, p + index % row * format.bytes, format.bytes);
        return is_unpacked(type) ? value & ((1u << info(type).bits) - 1) : value;
    }
    const size_t bit = index % row * static_cast<size_t>(info(type).bits);
    return p[bit / 8] >> (bit % 8) & ((1u << info(type).bits) - 1);
}
void set(Bytes& rows, DType type, size_t row, size_t index, uint64_t value) {
    const Format format = info(type).format;
    unsigned char* const p = &rows[index / row * row_bytes(type, row)];
    if (format.elements == 1) {
        std::memcpy(p + index % row * format.bytes, &value, format.bytes);
        return;
    }
    const size_t bit = index % row * static_cast<size_t>(info(type).bits);
    const unsigned mask = (1u << info(type).bits) - 1;
    p[bit / 8] = static_cast<unsigned char>((p[bit / 8] & ~(mask << (bit % 8))) | value << (bit % 8));
}
void clear_padding(Bytes& rows, DType type, size_t row) {
    const size_t used = row * static_cast<size_t>(info(type).bits) % 8;
    for (size_t at = row_bytes(type, row); is_packed(type) && used != 0 && at <= rows.size();
         at += row_bytes(type, row)) {
        rows[at - 1] &= static_cast<unsigned char>((1u << used) - 1);
    }
}

struct Grid {
    Shape shape;
    Shape block;

    size_t blocks() const {
        size_t n = 1;
        for (size_t d = 0; d < shape.size(); ++d) {
            n *= (shape[d] + block[d] - 1) / block[d];
        }
        return n;
    }
    // The block of element `index` in row-major order.
    size_t block_of(size_t index) const {
        size_t number = 0;
        size_t step = 1;
        for (size_t d = shape.size(); d-- > 0;) {
            number += index % shape[d] / block[d] * step;
            step *= (shape[d] + block[d] - 1) / block[d];
            index /= shape[d];
        }
        return number;
    }
    std::string words() const {
        std::string s;
        for (size_t d = 0; d < shape.size(); ++d) {
            s += " " + std::to_string(shape[d]) + "/" + std::to_string(block[d]);
        }
        return s;
    }
    piquant_blocks_t blocks(DType scale, DType zero) const {
        return {sizeof(piquant_blocks_t), shape.size(), shape.data(), block.data(), dtype(scale), dtype(zero), 0};
    }
};

Grid some_grid(Random& random, size_t most) {
    Grid g;
    g.shape.resize(1 + pick(random, 3));
    size_t n = 1;
    for (size_t& size : g.shape) {
        const size_t sizes[] = {1, 2, 3, 5, 8, 16, 31, 64, 96, 100, 128, 257, 384, 1000, 3000, 6000};
        size = sizes[pick(random, 15)];
        size = n * size > most ? 1 + pick(random, 4) : size;
        n *= size;
    }
    std::shuffle(g.shape.begin(), g.shape.end(), random);
    for (const size_t size : g.shape) {
        const size_t sizes[] = {1, 1, 2, 3, 5, 7, 16, 32, 48, 64, 100, 128, 256, 300, 2048, 2050, size, size, size};
        g.block.push_back(sizes[pick(random, 18)]);
    }
    return g;
}

double float_at(const void* p, DType type, size_t i) {
    const auto* bytes = static_cast<const unsigned char*>(p) + i * info(type).format.bytes;
    return type == DType::float16    ? static_cast<double>(load_element<float16>(bytes))
           : type == DType::bfloat16 ? static_cast<double>(load_element<bfloat16>(bytes))
           : type == DType::float32  ? static_cast<double>(load_element<float32>(bytes))
                                     : load_element<float64>(bytes);
}
void put_float(Bytes& array, DType type, size_t i, double x) {
    unsigned char* const p = &array[i * info(type).format.bytes];
    const auto narrow = static_cast<float>(x);
    type == DType::float16    ? store_element<float16>(p, narrow)
    : type == DType::bfloat16 ? store_element<bfloat16>(p, narrow)
    : type == DType::float32  ? store_element<float32>(p, narrow)
                              : store_element<float64>(p, x);
}

// Scales and zero points of any type, and what they are.
struct Parameters {
    DType scale_type;
    DType zero_type;
    Bytes scale_bytes;
    Bytes zero_bytes;
    std::vector<double> scales;
    std::vector<int64_t> zeros;
    bool has_zeros;

    const void* zero_pointer() const { return has_zeros ? zero_bytes.data() : nullptr; }
};

// Whether all codes of a type fit an integer type.
bool holds(DType integers, DType code) {
    const DTypeInfo& a = info(integers);
    const DTypeInfo& b = info(code);
    return b.is_signed ? a.is_signed && a.bits >= b.bits : a.bits - (a.is_signed ? 1 : 0) >= b.bits;
}
DType any_zero_type(Random& random, DType code) {
    DType type;
    do {
        type = static_cast<DType>(static_cast<int>(DType::int8) + static_cast<int>(pick(random, 7)));
    } while (!holds(type, code));
    return type;
}

Parameters some_parameters(Random& random, DType code, size_t blocks) {
    Parameters p{float_types[pick(random, 3)], any_zero_type(random, code), {}, {}, {}, {}, pick(random, 3) != 0};
    p.scale_bytes.resize(blocks * info(p.scale_type).format.bytes);
    p.zero_bytes.resize(blocks * info(p.zero_type).format.bytes);
    const int bits = std::min(info(code).bits, 16);
    for (size_t b = 0; b < blocks; ++b) {
        put_float(p.scale_bytes, p.scale_type, b, (1 + static_cast<double>(random() % 1000)) / 512);
        p.scales.push_back(float_at(p.scale_bytes.data(), p.scale_type, b));
        int64_t zero = static_cast<int64_t>(random() % (uint64_t{1} << bits));
        zero -= info(code).is_signed ? int64_t{1} << (bits - 1) : 0;
        p.zeros.push_back(p.has_zeros ? zero : 0);
        std::memcpy(&p.zero_bytes[b * info(p.zero_type).format.bytes], &zero, info(p.zero_type).format.bytes);
    }
    return p;
}

enum class Kind { quantize, dequantize, fused };

piquant_status_t one_scale(piquant_context_t* c, Kind kind, const void* in, void* out, DType real, DType code, size_t n,
                           double scale, int64_t zero, const piquant_options_t& o) {
    return kind == Kind::quantize ? piquant_quantize(c, in, dtype(real), out, dtype(code), n, scale, zero, &o)
           : kind == Kind::dequantize
               ? piquant_dequantize(c, in, dtype(code), out, dtype(real), n, scale, zero, &o)
               : piquant_quantize_dequantize(c, in, out, dtype(real), dtype(code), n, scale, zero, &o);
}

// Run by run: elements side by side of one block.
void expect(piquant_context_t* c, Kind kind, DType real, DType code, const Grid& g, const Bytes& in, Bytes& out,
            const Parameters& p, piquant_options_t o) {
    const DType packed = packed_type(code);
    const DType from = kind == Kind::dequantize ? code : real;
    const DType to = kind == Kind::quantize ? code : real;
    const DType part_from = kind == Kind::dequantize ? packed : real;
    const DType part_to = kind == Kind::quantize ? packed : real;
    const size_t row = g.shape.back();
    const size_t n = elements(g.shape);
    const uint64_t offset = o.offset;
    for (size_t first = 0; first < n;) {
        const size_t block = g.block_of(first);
        size_t end = first + 1;
        while (end < n && end % row != 0 && g.block_of(end) == block) {
            ++end;
        }
        const size_t count = end - first;
        Bytes part_in(bytes_for(count, info(part_from).format));
        Bytes part_out(bytes_for(count, info(part_to).format));
        for (size_t i = 0; i < count; ++i) {
            set(part_in, part_from, count, i, get(in, from, row, first + i));
            set(part_out, part_to, count, i, get(out, to, row, first + i));
        }
        o.offset = offset + first;
        ASSERT_EQ(one_scale(c, kind, part_in.data(), part_out.data(), real, packed, count, p.scales[block],
                            p.zeros[block], o),
                  PIQUANT_OK);
        for (size_t i = 0; i < count; ++i) {
            set(out, to, row, first + i, get(part_out, part_to, count, i));
        }
        first = end;
    }
    clear_padding(out, to, row);
}

piquant_status_t with_blocks(piquant_context_t* c, Kind kind, const void* in, void* out, DType real, DType code,
                             const piquant_blocks_t& blocks, const Parameters& p, const piquant_options_t& o) {
    const void* const scale = p.scale_bytes.data();
    const void* const zero = p.zero_pointer();
    return kind == Kind::quantize
               ? piquant_quantize_blocks(c, in, dtype(real), out, dtype(code), &blocks, scale, zero, &o, nullptr)
           : kind == Kind::dequantize
               ? piquant_dequantize_blocks(c, in, dtype(code), out, dtype(real), &blocks, scale, zero, &o, nullptr)
               : piquant_quantize_dequantize_blocks(c, in, out, dtype(real), dtype(code), &blocks, scale, zero, &o,
                                                    nullptr);
}

void check(piquant_context_t* parallel, piquant_context_t* single, Random& random, const Grid& g) {
    const auto kind = static_cast<Kind>(pick(random, 2));
    const DType real = float_types[pick(random, 3)];
    const DType code = any_code(random);
    const DType from = kind == Kind::dequantize ? code : real;
    const DType to = kind == Kind::quantize ? code : real;
    const bool contiguous = pick(random, 2) != 0;
    Placed in = place(random, from, g.shape, !contiguous);
    Placed out = place(random, to, g.shape, false);
    if (contiguous) {
        in = place_contiguous(random, from, g.shape);
        out = place_contiguous(random, to, g.shape);
    }
    fill(random, in, g.shape);
    fill(random, out, g.shape);
    const Parameters p = some_parameters(random, code, g.blocks());
    piquant_options_t o = PIQUANT_OPTIONS_INIT;
    o.round_mode = pick(random, 1) == 0 ? PIQUANT_NEAREST : PIQUANT_STOCHASTIC;
    o.reduce_op = pick(random, 1) == 0 ? PIQUANT_SET : PIQUANT_ADD;
    o.seed = random();
    o.offset = random() % 200000;
    if (pick(random, 3) == 0) {
        o.has_quant_min = 1;
        o.quant_min = info(code).is_signed ? -1 : 1;
    }
    Bytes expected = collected(out, g.shape);
    expect(single, kind, real, code, g, collected(in, g.shape), expected, p, o);
    o.in_strides = contiguous ? nullptr : in.strides.data();
    o.out_strides = contiguous ? nullptr : out.strides.data();
    Placed model = out;
    spread(model, g.shape, expected);
    const piquant_blocks_t blocks = g.blocks(p.scale_type, p.zero_type);
    ASSERT_EQ(with_blocks(parallel, kind, in.base(), out.base(), real, code, blocks, p, o), PIQUANT_OK);
    ASSERT_TRUE(out.memory == model.memory)
        << "kind " << static_cast<int>(kind) << " " << info(real).name << " " << info(code).name << " round "
        << o.round_mode << " reduce " << o.reduce_op << " contiguous " << contiguous << g.words();
}

// Every test on every instruction set, with some threads.
template <class Test>
void on_all_sets(const Test& test) {
    for (size_t i = 0; piquant_available_isa(i) != nullptr && !testing::Test::HasFatalFailure(); ++i) {
        SCOPED_TRACE(piquant_available_isa(i));
        const ContextPtr parallel = make_parallel_context(1 + i % 5);
        const ContextPtr alone = make_context(1);
        ASSERT_EQ(piquant_context_set_isa(parallel.get(), piquant_available_isa(i)), PIQUANT_OK);
        ASSERT_EQ(piquant_context_set_isa(alone.get(), "scalar"), PIQUANT_OK);
        Random random(7 + i);
        test(parallel.get(), alone.get(), random);
    }
}

// On each set.
constexpr int rounds = address_sanitizer || emulated ? 60 : 300;

TEST(Blocks, EachIsConvertedAsByItself) {
    on_all_sets([](piquant_context_t* parallel, piquant_context_t* alone, Random& random) {
        for (int i = 0; i < rounds && !testing::Test::HasFatalFailure(); ++i) {
            check(parallel, alone, random, some_grid(random, i % 8 == 0 ? 40000 : 3000));
        }
    });
}

// The smallest number of a scale type that is not below a scale.
double rounded_up(DType type, double scale) {
    if (type == DType::float64) {
        return scale;
    }
    if (type == DType::float32) {
        const auto narrow = static_cast<float>(scale);
        return static_cast<double>(static_cast<double>(narrow) < scale
                                       ? std::nextafter(narrow, std::numeric_limits<float>::infinity())
                                       : narrow);
    }
    unsigned below = 0;  // patterns of positive numbers are in the order of the numbers
    unsigned above = type == DType::float16 ? 0x7c00 : 0x7f80;
    while (above - below > 1) {
        const auto middle = static_cast<uint16_t>((below + above) / 2);
        (float_at(&middle, type, 0) < scale ? below : above) = middle;
    }
    const auto found = static_cast<uint16_t>(above);
    return float_at(&found, type, 0);
}

void check_parameters(piquant_context_t* parallel, piquant_context_t* alone, Random& random, const Grid& g) {
    const DType real = float_types[pick(random, 3)];
    const DType code = any_code(random);
    const DType packed = packed_type(code);
    const DType scale_type = float_types[pick(random, 3)];
    const DType zero_type = any_zero_type(random, code);
    const size_t n = elements(g.shape);
    const size_t row = g.shape.back();
    const bool contiguous = pick(random, 2) != 0;
    Placed in = contiguous ? place_contiguous(random, real, g.shape) : place(random, real, g.shape, true);
    Placed out = contiguous ? place_contiguous(random, code, g.shape) : place(random, code, g.shape, false);
    fill(random, in, g.shape);
    const Bytes data = collected(in, g.shape);
    piquant_options_t o = PIQUANT_OPTIONS_INIT;
    o.symmetric = static_cast<int>(pick(random, 1));
    o.round_mode = pick(random, 1) == 0 ? PIQUANT_NEAREST : PIQUANT_STOCHASTIC;
    o.seed = random();
    o.offset = random() % 200000;

    std::vector<Bytes> members(g.blocks());
    for (size_t i = 0; i < n; ++i) {
        Bytes& block = members[g.block_of(i)];
        const size_t size = info(real).format.bytes;
        block.insert(block.end(), &data[i * size], &data[i * size] + size);
    }
    Parameters expected{scale_type, zero_type, {}, {}, {}, {}, true};
    for (const Bytes& block : members) {
        double scale;
        int64_t zero;
        ASSERT_EQ(piquant_compute_quant_params(alone, block.data(), dtype(real), dtype(packed),
                                               block.size() / info(real).format.bytes, &o, &scale, &zero),
                  PIQUANT_OK);
        const double stored = rounded_up(scale_type, scale);
        if (stored != scale && o.symmetric == 0) {
            double lowest = 0;
            for (size_t i = 0; i < block.size() / info(real).format.bytes; ++i) {
                lowest = std::min(lowest, float_at(block.data(), real, i));
            }
            const auto ends = [&](auto f) {
                return static_cast<long double>(static_cast<int64_t>(f(info(packed).bits, info(packed).is_signed)));
            };
            if (info(packed).bits < 64) {
                const long double steps = -lowest / stored;
                const long double sum = std::nearbyint(ends(code_min) + steps);
                zero = static_cast<int64_t>(std::min(std::max(sum, ends(code_min)), ends(code_max)));
            } else {
                return;  // a long double does not hold these sums
            }
        }
        expected.scales.push_back(stored);
        expected.zeros.push_back(zero);
    }
    const size_t count = members.size();
    Bytes scales(count * info(scale_type).format.bytes);
    Bytes zeros(count * info(zero_type).format.bytes);
    const piquant_blocks_t blocks = g.blocks(scale_type, zero_type);
    const auto compare = [&](const char* what) {
        for (size_t b = 0; b < count; ++b) {
            int64_t zero = 0;
            std::memcpy(&zero, &zeros[b * info(zero_type).format.bytes], info(zero_type).format.bytes);
            const int64_t wanted = expected.zeros[b];
            ASSERT_EQ(float_at(scales.data(), scale_type, b), expected.scales[b])
                << what << " block " << b << " " << info(real).name << " " << info(code).name << " in "
                << info(scale_type).name << " symmetric " << o.symmetric << g.words();
            ASSERT_EQ(std::memcmp(&zero, &wanted, info(zero_type).format.bytes), 0)
                << what << " block " << b << " " << info(code).name << g.words() << ": " << zero << ", not " << wanted;
        }
    };
    o.in_strides = contiguous ? nullptr : in.strides.data();
    ASSERT_EQ(piquant_compute_quant_params_blocks(parallel, in.base(), dtype(real), dtype(code), &blocks, &o,
                                                  scales.data(), zeros.data(), nullptr),
              PIQUANT_OK);
    compare("parameters");
    std::fill(scales.begin(), scales.end(), 0xee);
    std::fill(zeros.begin(), zeros.end(), 0xee);
    o.out_strides = contiguous ? nullptr : out.strides.data();
    Placed model = out;
    ASSERT_EQ(piquant_quantize_dynamic(parallel, in.base(), dtype(real), out.base(), dtype(code), &blocks, &o,
                                       scales.data(), zeros.data(), nullptr),
              PIQUANT_OK);
    compare("dynamic");
    Bytes codes = collected(model, g.shape);
    expect(alone, Kind::quantize, real, code, g, data, codes, expected, o);
    spread(model, g.shape, codes);
    ASSERT_TRUE(out.memory == model.memory)
        << "dynamic " << info(real).name << " " << info(code).name << " in " << info(scale_type).name << " round "
        << o.round_mode << " contiguous " << contiguous << " row " << row << g.words();
}

TEST(Blocks, EachHasTheParametersOfItself) {
    on_all_sets([](piquant_context_t* parallel, piquant_context_t* alone, Random& random) {
        for (int i = 0; i < rounds && !testing::Test::HasFatalFailure(); ++i) {
            check_parameters(parallel, alone, random, some_grid(random, i % 8 == 0 ? 40000 : 3000));
        }
    });
}

}  // namespace
}  // namespace piquant
