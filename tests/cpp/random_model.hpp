// The random words a second time, from the definition in docs/numerics.md and the Philox paper.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace piquant {
namespace model {

using Words4 = std::array<uint32_t, 4>;
using Words2 = std::array<uint32_t, 2>;

// Philox4x32-10 as the paper has it, with all of the counter that period_keys leaves zero.
inline Words4 philox(Words4 counter, Words2 key) {
    for (int round = 0; round < 10; ++round) {
        const uint64_t a = uint64_t{0xD2511F53} * counter[0];
        const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
        counter = {uint32_t(b >> 32) ^ counter[1] ^ key[0], uint32_t(b), uint32_t(a >> 32) ^ counter[3] ^ key[1],
                   uint32_t(a)};
        key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
    }
    return counter;
}

inline Words4 keys_of(uint64_t seed, uint64_t period) {
    return philox({uint32_t(period), uint32_t(period >> 32), 0, 0}, {uint32_t(seed), uint32_t(seed >> 32)});
}

inline uint32_t entry_of(const Words4& keys, uint64_t i) {
    uint32_t e = static_cast<uint32_t>(i) * 0x9e3779b9u + keys[0];
    e = (e ^ e >> 16) * 0x7feb352du;
    e = (e ^ e >> 15 ^ keys[1]) * 0x846ca68bu;
    return e ^ e >> 16;
}

inline uint16_t word_of(const Words4& keys, uint64_t index) {
    const uint64_t pair = index % 65536 / 2;
    uint32_t w = entry_of(keys, pair % 64) ^ entry_of(keys, 64 + pair % 65);
    w *= entry_of(keys, 129 + pair % 63) * 2 + 1;
    w ^= w >> 16;
    return static_cast<uint16_t>(index % 2 != 0 ? w >> 16 : w & 0xffff);
}

inline uint16_t model_word(uint64_t seed, uint64_t index) {
    return word_of(keys_of(seed, index / 65536), index);
}

// The words of n elements from `first` on.
inline void model_words(uint64_t seed, uint64_t first, uint16_t* words, size_t n) {
    Words4 keys{};
    for (size_t i = 0; i < n; ++i) {
        const uint64_t index = first + i;
        if (i == 0 || index % 65536 == 0) {
            keys = keys_of(seed, index / 65536);
        }
        words[i] = word_of(keys, index);
    }
}

}  // namespace model
}  // namespace piquant
