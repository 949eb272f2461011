// Arrays and parameters of blocks between pages that nobody may touch, on every instruction set: a call stays within its
// arrays, writes nothing beside what it writes, and gives what the scalar set gives elsewhere.
#include "block_call.hpp"
#include "guarded_region.hpp"
#include "sanitizers.hpp"
#include "support.hpp"

namespace piquant {
namespace {

using Call = BlockArguments;

// An array against the guard behind it, or before it, or `shift` bytes from there; with canaries around it.
class Guarded {
public:
    explicit Guarded(bool writable) : region_(size_t{1} << 17, writable) {}

    unsigned char* place(const Bytes& array, bool at_end, size_t shift) {
        start_ = at_end ? region_.size() - array.size() - shift : shift;
        std::memset(region_.data(), canary, region_.size());
        std::copy(array.begin(), array.end(), region_.data() + start_);
        return region_.view() + start_;
    }
    // The array as it now is, if all else is as it was; else nothing.
    Bytes taken(size_t size) const {
        const unsigned char* const p = region_.data();
        const auto is_canary = [](unsigned char b) { return b == canary; };
        return std::all_of(p, p + start_, is_canary) && std::all_of(p + start_ + size, p + region_.size(), is_canary)
                   ? Bytes(p + start_, p + start_ + size)
                   : Bytes();
    }

private:
    static constexpr unsigned char canary = 0xa5;
    GuardedRegion region_;
    size_t start_ = 0;
};

// Of calls that differ in little, every how-many-eth is made; a number that has no divisor with the types in common.
constexpr size_t few = address_sanitizer ? 7 : 1;

class BlockGuard : public testing::Test {
protected:
    void SetUp() override { report_faults(); }

    void check(const Isa& isa, Call::Function function, DType real, DType code, const BlockGrid& g, bool at_end,
               size_t shift = 0) {
        ++turn_;
        const DType scale_dtype = static_cast<DType>(turn_ % float_count);
        const DType zero_dtype = turn_ % 3 == 0 ? plain(code) : info(code).is_signed ? DType::int64 : DType::uint64;
        const piquant_blocks_t blocks = g.with(scale_dtype, zero_dtype);
        piquant_options_t o = PIQUANT_OPTIONS_INIT;
        o.round_mode = turn_ % 5 < 2 ? PIQUANT_STOCHASTIC : PIQUANT_NEAREST;
        o.reduce_op = turn_ % 7 < 3 ? PIQUANT_ADD : PIQUANT_SET;
        o.symmetric = o.reduce_op;
        o.offset = 65500;
        Call call = {
            function, scalar_.get(), static_cast<piquant_dtype_t>(real), static_cast<piquant_dtype_t>(code), &blocks,
            &o};
        BlockArrays arrays(call, g, scale_dtype, zero_dtype, words_);
        const BlockArrays before = arrays;
        ASSERT_EQ(arrays.of(call)(), PIQUANT_OK);

        std::string name = std::string(name_of(function)) + " " + info(real).name + " " + info(code).name + " by " +
                           info(scale_dtype).name;
        for (size_t d = 0; d < g.shape.size(); ++d) {
            name += " " + std::to_string(g.shape[d]) + "/" + std::to_string(g.block_size[d]);
        }
        Guarded& scales = call.finds_parameters() ? scale_found_ : scale_given_;
        Guarded& zeros = call.finds_parameters() ? zero_found_ : zero_given_;
        call.context = context_.get();
        call.in = in_.place(before.in, at_end, shift);
        call.out = out_.place(before.out, at_end, shift);
        call.scale = scales.place(before.scale, at_end, shift);
        call.zero_point = zeros.place(before.zero_point, at_end, shift);
        const GuardedAccess access = {isa.name,         name.c_str(),
                                      g.elements(),     static_cast<const unsigned char*>(call.in),
                                      before.in.size(), static_cast<unsigned char*>(call.out),
                                      before.out.size()};
        ASSERT_EQ(piquant_context_set_isa(context_.get(), isa.name), PIQUANT_OK);
        guarded_access = &access;
        const piquant_status_t status = call();
        guarded_access = nullptr;
        ASSERT_EQ(status, PIQUANT_OK) << name;
        ASSERT_TRUE(out_.taken(before.out.size()) == arrays.out) << isa.name << ", " << name;
        ASSERT_TRUE(scales.taken(before.scale.size()) == arrays.scale) << isa.name << ", scales of " << name;
        ASSERT_TRUE(zeros.taken(before.zero_point.size()) == arrays.zero_point)
            << isa.name << ", zero points of " << name;
    }

private:
    Guarded in_{false};
    Guarded out_{true};
    Guarded scale_given_{false};
    Guarded scale_found_{true};
    Guarded zero_given_{false};
    Guarded zero_found_{true};
    ContextPtr context_ = make_context(1);
    ContextPtr scalar_ = [] {
        ContextPtr c = make_context(1);
        EXPECT_EQ(piquant_context_set_isa(c.get(), "scalar"), PIQUANT_OK);
        return c;
    }();
    Words words_{4};
    size_t turn_ = 0;
};

const BlockGrid grids[] = {{{3, 257}, {1, 32}}, {{2, 96}, {1, 16}},     {{5, 77}, {1, 7}},    {{4, 131}, {1, 131}},
                           {{2500}, {2100}},    {{21, 67}, {21, 1}},    {{35, 50}, {16, 20}}, {{3, 4, 33}, {3, 1, 33}},
                           {{3, 3}, {1, 2}},    {{2, 5, 9}, {1, 1, 1}}, {{70, 32}, {70, 32}}};

// All functions on all types; shapes and ends take turns.
TEST_F(BlockGuard, EveryType) {
    size_t round = 0;
    for (const Isa* isa : all_isas()) {
        for (int f = 0; f < float_count; ++f) {
            for (int q = float_count; q < dtype_count; ++q) {
                for (const Call::Function function : block_functions) {
                    for (int i = 0; i < (address_sanitizer ? 1 : 3) && !HasFailure(); ++i, ++round) {
                        check(*isa, function, static_cast<DType>(f), static_cast<DType>(q),
                              grids[round % std::size(grids)], round % 2 == 0);
                    }
                }
            }
        }
    }
}

// Arrays that begin anywhere; UndefinedBehaviorSanitizer sees what takes them for aligned.
TEST_F(BlockGuard, EveryMisalignment) {
    size_t round = 0;
    for (const Isa* isa : all_isas()) {
        for (size_t shift = 1; shift < 8; ++shift) {
            for (int f = 0; f < float_count; ++f) {
                for (const DType code : {DType::int8, DType::uint4, DType::uint16, DType::int64}) {
                    for (const Call::Function function : block_functions) {
                        if (++round % few != 0) {
                            continue;
                        }
                        check(*isa, function, static_cast<DType>(f), code, grids[round % std::size(grids)],
                              round % 2 == 0, shift);
                    }
                }
            }
        }
    }
}

// Arrays of every length around some registers, in blocks of every kind, at either end.
TEST_F(BlockGuard, EveryLength) {
    constexpr DType codes[] = {DType::int8, DType::uint4, DType::int2, DType::int16};
    size_t round = 0;
    for (const Isa* isa : all_isas()) {
        for (size_t n = 1; n < 300 && !HasFailure(); n += n < 140 ? 1 : 23) {
            for (const size_t block :
                 {size_t{1}, size_t{3}, size_t{8}, size_t{16}, size_t{32}, size_t{48}, size_t{64}, n}) {
                for (const bool at_end : {false, true}) {
                    if (++round % few != 0) {
                        continue;
                    }
                    check(*isa, block_functions[round % 5], static_cast<DType>(round / 5 % 3), codes[round % 4],
                          {{n}, {block}}, at_end);
                    check(*isa, block_functions[(round + 2) % 5], DType::float32, codes[round / 2 % 4],
                          {{3, n}, {1, block}}, at_end);
                }
            }
        }
    }
}

}  // namespace
}  // namespace piquant
