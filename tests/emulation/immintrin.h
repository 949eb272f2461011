// Stands before the compiler's <immintrin.h> where AVX-512 is emulated (PIQUANT_EMULATE_AVX512): AVX2 and older are the
// CPU's, what is wider or has masks comes from SIMDe; and from here what version 0.7.4 of SIMDe lacks.
#pragma once

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <stdint.h>
#include <string.h>

namespace emulation {

template <class Part, class Whole>
inline Part part(Whole whole, int index) {
    Part parts[sizeof(Whole) / sizeof(Part)];
    memcpy(parts, &whole, sizeof whole);
    return parts[index];
}

// What an operation gives for the lower half of its argument, beside what it gives for the upper.
template <class Result, class Half, class Whole, class Operation>
inline Result by_halves(Whole whole, Operation operation) {
    const auto lo = operation(part<Half>(whole, 0));
    const auto hi = operation(part<Half>(whole, 1));
    static_assert(sizeof(Half) * 2 == sizeof whole && sizeof lo * 2 == sizeof(Result));
    Result result;
    memcpy(&result, &lo, sizeof lo);
    memcpy(reinterpret_cast<char*>(&result) + sizeof lo, &hi, sizeof hi);
    return result;
}

// Unsigned words compare like signed ones with the highest bit inverted. Packing interleaves quarters: 0 2 1 3.
inline __mmask32 greater_words(__m512i a, __m512i b) {
    const __m256i highest = _mm256_set1_epi16(-0x8000);
    __m256i greater[2];
    for (int i = 0; i < 2; ++i) {
        greater[i] = _mm256_cmpgt_epi16(_mm256_xor_si256(part<__m256i>(a, i), highest),
                                        _mm256_xor_si256(part<__m256i>(b, i), highest));
    }
    const __m256i packed = _mm256_packs_epi16(greater[0], greater[1]);
    return static_cast<__mmask32>(_mm256_movemask_epi8(_mm256_permute4x64_epi64(packed, 0xd8)));
}

inline __m128i lower_bytes(__m256i words) {
    const __m256i lower = _mm256_and_si256(words, _mm256_set1_epi16(0xff));
    return _mm_packus_epi16(part<__m128i>(lower, 0), part<__m128i>(lower, 1));
}

inline void stream(void* p, __m512i v) {
    if (reinterpret_cast<uintptr_t>(p) % 64 != 0) {
        __builtin_trap();  // as the instruction would
    }
    for (int i = 0; i < 2; ++i) {
        _mm256_stream_si256(static_cast<__m256i*>(p) + i, part<__m256i>(v, i));
    }
}

}  // namespace emulation

// Without optimization GCC has some of them as macros; SIMDe 0.7.4 has one with four parameters instead of two.
#undef _mm512_cvtps_ph
#undef _mm512_extractf32x8_ps
#undef _mm512_madd_epi16
#undef _mm512_srai_epi32

#define PIQUANT_BY_HALVES(Result, Half, x, half_wide, ...) \
    emulation::by_halves<Result, Half>(x, [&](Half half) { return half_wide(half __VA_OPT__(, ) __VA_ARGS__); })
#define PIQUANT_OF_WORD(half_wide) [](long long half) { return half_wide(_mm_cvtsi64_si128(half)); }

#define _mm256_cvtepi16_epi8(x) emulation::lower_bytes(x)
#define _mm512_cmpgt_epu16_mask(a, b) emulation::greater_words(a, b)
#define _mm512_cvtepi16_epi32(x) PIQUANT_BY_HALVES(__m512i, __m128i, x, _mm256_cvtepi16_epi32)
#define _mm512_cvtepi32_pd(x) PIQUANT_BY_HALVES(__m512d, __m128i, x, _mm256_cvtepi32_pd)
#define _mm512_cvtepi32_ps(x) PIQUANT_BY_HALVES(__m512, __m256i, x, _mm256_cvtepi32_ps)
#define _mm512_cvtepi8_epi32(x) emulation::by_halves<__m512i, long long>(x, PIQUANT_OF_WORD(_mm256_cvtepi8_epi32))
#define _mm512_cvtepu16_epi32(x) PIQUANT_BY_HALVES(__m512i, __m128i, x, _mm256_cvtepu16_epi32)
#define _mm512_cvtepu8_epi16(x) PIQUANT_BY_HALVES(__m512i, __m128i, x, _mm256_cvtepu8_epi16)
#define _mm512_cvtepu8_epi32(x) emulation::by_halves<__m512i, long long>(x, PIQUANT_OF_WORD(_mm256_cvtepu8_epi32))
#define _mm512_cvtpd_epi32(x) PIQUANT_BY_HALVES(__m256i, __m256d, x, _mm256_cvtpd_epi32)
#define _mm512_cvtpd_ps(x) PIQUANT_BY_HALVES(__m256, __m256d, x, _mm256_cvtpd_ps)
#define _mm512_cvtph_ps(x) PIQUANT_BY_HALVES(__m512, __m128i, x, _mm256_cvtph_ps)
#define _mm512_cvtps_epi32(x) PIQUANT_BY_HALVES(__m512i, __m256, x, _mm256_cvtps_epi32)
#define _mm512_cvtps_pd(x) PIQUANT_BY_HALVES(__m512d, __m128, x, _mm256_cvtps_pd)
#define _mm512_cvtps_ph(x, rounding) PIQUANT_BY_HALVES(__m256i, __m256, x, _mm256_cvtps_ph, (rounding) & 7)
#define _mm512_extractf32x8_ps(x, index) emulation::part<__m256>(x, index)
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)
#define _mm512_srai_epi32(x, count) PIQUANT_BY_HALVES(__m512i, __m256i, x, _mm256_srai_epi32, count)
#define _mm512_stream_si512(p, v) emulation::stream(p, v)
