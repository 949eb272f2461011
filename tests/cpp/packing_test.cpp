// Order of codes in memory, against one bit-level model: bit b of element i is bit i * bits + b of the stream.
#include "core/packing.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace piquant {
namespace {

using Bytes = std::vector<unsigned char>;

Bytes model_pack(const std::vector<uint64_t>& codes, int bits) {
    const auto width = static_cast<size_t>(bits);
    Bytes bytes((codes.size() * width + 7) / 8, 0);
    for (size_t position = 0; position < codes.size() * width; ++position) {
        const uint64_t bit = codes[position / width] >> (position % width) & 1;
        bytes[position / 8] = static_cast<unsigned char>(bytes[position / 8] | bit << (position % 8));
    }
    return bytes;
}

template <int Bits>
void check_round_trip(bool is_signed) {
    std::mt19937_64 random(1);
    const uint64_t lowest = code_min(Bits, is_signed);
    const uint64_t highest = code_max(Bits, is_signed);
    const uint64_t sign = sign_bit(Bits, is_signed);
    for (size_t n = 0; n <= 70; ++n) {
        std::vector<uint64_t> codes;
        for (size_t i = 0; i < n; ++i) {
            codes.push_back(i == 0 ? lowest : i == 1 ? highest : lowest + (random() & (highest - lowest)));
        }
        const size_t size = bytes_for(n, Bits);
        ASSERT_EQ(size, (n * static_cast<size_t>(Bits) + 7) / 8);
        Bytes bytes(size + 2, 0xa5);  // one canary on each side
        for (size_t i = 0; i < n; ++i) {
            store_code<Bits>(bytes.data() + 1, i, codes[i]);
        }
        Bytes expected = model_pack(codes, Bits);
        expected.insert(expected.begin(), 0xa5);
        expected.push_back(0xa5);
        ASSERT_EQ(bytes, expected) << "n " << n;
        for (size_t i = 0; i < n; ++i) {
            ASSERT_EQ((load_field<Bits>(bytes.data() + 1, i) ^ sign) + lowest, codes[i])
                << "n " << n << " element " << i;
        }
    }
}

#define X(name, bits, is_signed)           \
    TEST(Packing, name) {                  \
        check_round_trip<bits>(is_signed); \
    }
PIQUANT_CODE_TYPES(X)
#undef X

// The bytes that torch and ONNX write.
TEST(Packing, Golden) {
    unsigned char bytes[3] = {0xff, 0xff, 0xff};
    const uint64_t nibbles[] = {1, uint64_t(-2), 7, uint64_t(-8), 5};
    for (size_t i = 0; i < 5; ++i) {
        store_code<4>(bytes, i, nibbles[i]);
    }
    EXPECT_EQ(bytes[0], 0xe1);
    EXPECT_EQ(bytes[1], 0x87);
    EXPECT_EQ(bytes[2], 0x05);
    const uint64_t crumbs[] = {0, 1, 2, 3, 3, 0, 2};
    for (size_t i = 0; i < 7; ++i) {
        store_code<2>(bytes, i, crumbs[i]);
    }
    EXPECT_EQ(bytes[0], 0xe4);
    EXPECT_EQ(bytes[1], 0x23);
}

TEST(Types, LimitsAsPatterns) {
    EXPECT_EQ(code_min(2, true), uint64_t(-2));
    EXPECT_EQ(code_max(2, true), 1u);
    EXPECT_EQ(code_max(2, false), 3u);
    EXPECT_EQ(code_min(64, true), uint64_t(INT64_MIN));
    EXPECT_EQ(code_max(64, true), uint64_t(INT64_MAX));
    EXPECT_EQ(code_min(64, false), 0u);
    EXPECT_EQ(code_max(64, false), UINT64_MAX);
    EXPECT_EQ(code_max(32, false), UINT32_MAX);
    EXPECT_TRUE(code_less(uint64_t(-1), 0, true));
    EXPECT_FALSE(code_less(uint64_t(-1), 0, false));
}

TEST(Types, SizesDoNotOverflow) {
    EXPECT_EQ(bytes_for(SIZE_MAX, 2), SIZE_MAX / 4 + 1);
    EXPECT_EQ(bytes_for(SIZE_MAX, 4), SIZE_MAX / 2 + 1);
    EXPECT_EQ(bytes_for(SIZE_MAX, 8), SIZE_MAX);
    EXPECT_EQ(bytes_for((size_t{1} << 32) + 5, 2), (size_t{1} << 30) + 2);
    EXPECT_EQ(bytes_for(0, 2), 0u);
}

}  // namespace
}  // namespace piquant
