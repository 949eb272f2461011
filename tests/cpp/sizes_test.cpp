// More elements than 31 and 32 bits count, in little memory. Address ranges of gigabytes map one small file again and
// again, so that all their parts hold the same; windows at the ends, around 2^31 and around 2^32 have pages of their
// own, and data of their own. What belongs into a window lands there, the file holds what its data becomes, and nothing
// lands beside the output, which lies between guards.
//
// PIQUANT_SIZES=all runs every case; otherwise those that take a few seconds together.
#include <gtest/gtest.h>

#include "guarded_region.hpp"
#include "kernel_data.hpp"
#include "support.hpp"

namespace piquant {
namespace {

constexpr size_t two31 = size_t{1} << 31;
constexpr size_t two32 = size_t{1} << 32;
constexpr size_t chunks_beyond = two32 + (size_t{1} << 24) + 5;  // some chunks of a pool begin beyond 2^32
constexpr size_t period = size_t{1} << 21;                       // elements that a file holds
constexpr size_t window = size_t{1} << 16;                       // elements of a window, at the least
constexpr unsigned char canary = 0xa5;

// Starts of windows, in elements: multiples of the window, so that they lie on pages whatever the width.
std::vector<size_t> windows(size_t n) {
    std::vector<size_t> starts;
    for (const size_t around : {size_t{0}, two31, two32, n}) {
        for (const size_t back : {window, size_t{0}}) {
            const size_t start = around < back ? 0 : (around - back) / window * window;
            if (start < n && std::find(starts.begin(), starts.end(), start) == starts.end()) {
                starts.push_back(start);
            }
        }
    }
    return starts;
}

// n elements of a type over a repeated file.
class Repeated {
public:
    Repeated(DType type, size_t n) : bits_(info(type).bits), n_(n), bytes_(bytes_for(n, bits_)) {
        const size_t file_bytes = bytes_for(period, bits_);
        const size_t mapped = (bytes_ + page_bytes() - 1) / page_bytes() * page_bytes();
        whole_bytes_ = mapped + 2 * guard;
        whole_ = static_cast<unsigned char*>(
            checked_map(nullptr, whole_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1));
        begin_ = whole_ + guard;
        const int file = memfd_create("piquant", 0);
        if (file < 0 || ftruncate(file, static_cast<off_t>(file_bytes)) != 0) {
            std::perror("memfd_create");
            std::abort();
        }
        for (size_t at = 0; at < mapped; at += file_bytes) {
            checked_map(begin_ + at, std::min(file_bytes, mapped - at), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                        file);
        }
        file_ = static_cast<unsigned char*>(checked_map(nullptr, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file));
        close(file);
        for (const size_t start : windows(n)) {
            checked_map(at(start), std::min(bytes_for(window, bits_), mapped - bytes_for(start, bits_)),
                        PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
        }
    }
    ~Repeated() {
        munmap(whole_, whole_bytes_);
        munmap(file_, bytes_for(period, bits_));
    }
    Repeated(const Repeated&) = delete;
    Repeated& operator=(const Repeated&) = delete;

    unsigned char* data() const { return begin_; }
    unsigned char* file() const { return file_; }
    unsigned char* at(size_t element) const { return begin_ + bytes_for(element, bits_); }
    size_t bytes(size_t elements) const { return bytes_for(elements, bits_); }
    // Of a window: the elements that belong to the array, and the bytes to the end of its last page.
    size_t elements_in(size_t start) const { return std::min(window, n_ - start); }
    size_t mapped_in(size_t start) const {
        return std::min(bytes_for(window, bits_), whole_bytes_ - 2 * guard - bytes_for(start, bits_));
    }

private:
    static constexpr size_t guard = size_t{1} << 21;

    int bits_;
    size_t n_;
    size_t bytes_;
    size_t whole_bytes_;
    unsigned char* whole_;
    unsigned char* begin_;
    unsigned char* file_;
};

enum class Kind { quantize, dequantize, fused, parameters };

struct Case {
    Kind kind;
    DType real;
    DType code;
    size_t n;
    Round round;
    Reduce reduce;
    size_t threads;
    const char* isa;  // null: the best
};

std::string name_of(const Case& c) {
    const char* const kinds[] = {"quantize", "dequantize", "fused", "parameters"};
    return std::string(kinds[static_cast<int>(c.kind)]) + "_" + info(c.real).name + "_" + info(c.code).name + "_" +
           std::to_string(c.n) + (c.round == Round::stochastic ? "_stochastic" : "") +
           (c.reduce == Reduce::add ? "_add" : "") + "_threads" + std::to_string(c.threads) +
           (c.isa != nullptr ? std::string("_") + c.isa : "");
}

void PrintTo(const Case& c, std::ostream* out) {
    *out << name_of(c);
}

constexpr double scale = 0.25;
constexpr int64_t zero_point = 1;

piquant_status_t call(piquant_context_t* context, const Case& c, const void* in, void* out, size_t n, uint64_t offset) {
    piquant_options_t o = PIQUANT_OPTIONS_INIT;
    o.round_mode = static_cast<piquant_round_mode_t>(c.round);
    o.reduce_op = static_cast<piquant_reduce_op_t>(c.reduce);
    o.seed = 5;
    o.offset = offset;
    const auto real = static_cast<piquant_dtype_t>(c.real);
    const auto code = static_cast<piquant_dtype_t>(c.code);
    switch (c.kind) {
        case Kind::quantize: return piquant_quantize(context, in, real, out, code, n, scale, zero_point, &o);
        case Kind::dequantize: return piquant_dequantize(context, in, code, out, real, n, scale, zero_point, &o);
        default: return piquant_quantize_dequantize(context, in, out, real, code, n, scale, zero_point, &o);
    }
}

ContextPtr context_for(const Case& c) {
    ContextPtr context = make_context(c.threads);
    if (c.isa != nullptr) {
        EXPECT_EQ(piquant_context_set_isa(context.get(), c.isa), PIQUANT_OK);
    }
    return context;
}

Bytes data_for(DType type, size_t n, std::mt19937_64& random) {
    return info(type).is_float ? float_data(type, n, scale, random) : code_data(type, n, random);
}

class Sizes : public testing::TestWithParam<Case> {};

void check_transform(const Case& c) {
    const DType from = c.kind == Kind::dequantize ? c.code : c.real;
    const DType to = c.kind == Kind::quantize ? c.code : c.real;
    constexpr uint64_t offset = uint64_t{0} - two31 - 12345;  // runs over 2^64
    std::mt19937_64 random(c.n);
    const Repeated in(from, c.n);
    const Repeated out(to, c.n);
    const std::vector<size_t> starts = windows(c.n);
    const Bytes common = data_for(from, period, random);
    std::copy(common.begin(), common.end(), in.file());
    std::vector<Bytes> inputs;
    for (const size_t start : starts) {
        inputs.push_back(data_for(from, window, random));
        std::copy_n(inputs.back().begin(), in.bytes(in.elements_in(start)), in.at(start));
        std::memset(out.at(start), c.reduce == Reduce::add ? 0 : canary, out.mapped_in(start));
        std::memset(out.at(start) + out.bytes(out.elements_in(start)), canary,
                    out.mapped_in(start) - out.bytes(out.elements_in(start)));
    }
    const ContextPtr context = context_for(c);
    ASSERT_EQ(call(context.get(), c, in.data(), out.data(), c.n, offset), PIQUANT_OK);
    // The same in pieces that any counter holds, by the model.
    const ContextPtr model = make_context(1);
    ASSERT_EQ(piquant_context_set_isa(model.get(), "scalar"), PIQUANT_OK);
    for (size_t w = 0; w < starts.size(); ++w) {
        const size_t start = starts[w];
        const size_t n = out.elements_in(start);
        Bytes expected(out.bytes(n), 0);
        ASSERT_EQ(call(model.get(), c, inputs[w].data(), expected.data(), n, offset + start), PIQUANT_OK);
        ASSERT_EQ(std::memcmp(out.at(start), expected.data(), expected.size()), 0) << "window at " << start;
        for (size_t i = expected.size(); i < out.mapped_in(start); ++i) {
            ASSERT_EQ(out.at(start)[i], canary) << i - expected.size() << " bytes beyond the end";
        }
    }
    if (c.round == Round::nearest && c.reduce == Reduce::set && c.n >= 2 * two31) {
        Bytes expected(out.bytes(period), 0);
        ASSERT_EQ(call(model.get(), c, common.data(), expected.data(), period, 0), PIQUANT_OK);
        ASSERT_EQ(std::memcmp(out.file(), expected.data(), expected.size()), 0) << "what repeats";
    }
}

// The extremes stand in windows of their own at the ends and before the last multiple of 2^31, where a count that lost
// its upper bits would not look.
void check_parameters(const Case& c) {
    const Repeated in(c.real, c.n);
    const auto put = [&](size_t element, float x) {
        const uint16_t half = c.real == DType::float16 ? float32_to_float16(x) : float32_to_bfloat16(x);
        info(c.real).bits == 16 ? std::memcpy(in.at(element), &half, 2) : std::memcpy(in.at(element), &x, 4);
    };
    const ContextPtr context = context_for(c);
    double found_scale = 0;
    int64_t found_zero_point = 0;
    const size_t middle = c.n < two31 ? two31 - window : c.n / two31 * two31 - 1;
    for (const size_t low : {c.n - 1, size_t{0}, middle}) {
        const size_t high = c.n - 1 - low;
        put(low, -1);
        put(high, 254);
        ASSERT_EQ(piquant_compute_quant_params(context.get(), in.data(), static_cast<piquant_dtype_t>(c.real),
                                               PIQUANT_UINT8, c.n, nullptr, &found_scale, &found_zero_point),
                  PIQUANT_OK);
        EXPECT_EQ(found_scale, 1) << "low at " << low;
        EXPECT_EQ(found_zero_point, 1) << "low at " << low;
        put(low, 0);
        put(high, 0);
    }
}

TEST_P(Sizes, BeyondTheCountersOf32Bits) {
    report_faults();
    const Case& c = GetParam();
    c.kind == Kind::parameters ? check_parameters(c) : check_transform(c);
}

std::vector<Case> cases() {
    constexpr Round nearest = Round::nearest;
    constexpr Reduce set = Reduce::set;
    const bool all = std::getenv("PIQUANT_SIZES") != nullptr && std::string(std::getenv("PIQUANT_SIZES")) == "all";
    std::vector<Case> found = {
        {Kind::quantize, DType::float32, DType::uint8, two31 + 1, nearest, set, 2, nullptr},
        {Kind::quantize, DType::float16, DType::uint4, two32 + 5, nearest, set, 1, nullptr},
        {Kind::quantize, DType::bfloat16, DType::uint2, chunks_beyond, Round::stochastic, set, 2, nullptr},
        {Kind::dequantize, DType::float16, DType::uint8, chunks_beyond, nearest, set, 2, nullptr},
        {Kind::fused, DType::bfloat16, DType::uint8, two31 - 1, nearest, set, 1, nullptr},
        {Kind::parameters, DType::float16, DType::uint8, two32 + 5, nearest, set, 1, nullptr},
    };
    if (!all) {
        return found;
    }
    found.clear();
    const std::pair<DType, DType> types[] = {{DType::float32, DType::uint8},
                                             {DType::float16, DType::uint4},
                                             {DType::bfloat16, DType::uint2},
                                             {DType::float16, DType::int32}};
    for (const size_t n : {two31 - 1, two31 + 1, two32 + 5, chunks_beyond}) {
        for (const auto& [real, code] : types) {
            for (const size_t threads : {size_t{1}, size_t{2}}) {
                for (const Round round : {Round::nearest, Round::stochastic}) {
                    found.push_back({Kind::quantize, real, code, n, round, set, threads, nullptr});
                    found.push_back({Kind::fused, real, code, n, round, set, threads, nullptr});
                }
                for (const Reduce reduce : {Reduce::set, Reduce::add}) {
                    found.push_back({Kind::dequantize, real, code, n, nearest, reduce, threads, nullptr});
                }
            }
        }
        found.push_back({Kind::parameters, DType::float32, DType::uint8, n, nearest, set, 2, nullptr});
    }
    for (const Isa* isa : all_isas()) {
        for (const Kind kind : {Kind::quantize, Kind::dequantize, Kind::parameters}) {
            found.push_back({kind, DType::float16, DType::uint4, two32 + 5, nearest, set, 2, isa->name});
        }
    }
    return found;
}

INSTANTIATE_TEST_SUITE_P(Cases, Sizes, testing::ValuesIn(cases()),
                         [](const auto& instance) { return name_of(instance.param); });

}  // namespace
}  // namespace piquant
