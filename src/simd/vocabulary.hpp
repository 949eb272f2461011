// The vector vocabulary: the words that kernels are written in, and the instruction set they are compiled for.
//
// An instruction set defines, in one header, and a second for codes, over vectors of `lanes` 32-bit lanes (one register
// of `width` bytes):
//
//   types      f32    `lanes` floats              f64    `lanes` doubles (two registers)
//              i32    `lanes` 32-bit integers     bytes  one register of packed 8- or 16-bit codes
//              words<Interleaved>  2 * lanes 16-bit random words
//
//   pairs      interleaved<Float>          two vectors of 2 * lanes elements are not the first and the second half of
//                                          them, but the even and the odd ones: <Interleaved> below says which
//   memory     load(Float, p)              `lanes` elements of a float type, widened to the compute type
//              load2(Float, p, a, b)       2 * lanes of them, and +0 may stand for -0. Two loads, if there is no such
//                                          word for Float (kernels/rounding.hpp); where there is, load(Float, p) is
//                                          not needed
//              load_interleaved(Float, p, a, b)    2 * lanes of them, even and odd ones, where interleaved<Float>; and
//                                          of float32, where any type interleaves
//              store2<Storing, Interleaved>(Float, p, a, b)    a pair, rounded to Float; a NaN only as the sum of a
//                                          Float and a number or of infinities, so that nothing of it is rounded off
//              load_codes4<Bits, Interleaved>(p, c)    4 * lanes fields of at most 16 bits, zero-extended to four i32;
//                                          where any type interleaves, simd/interleaved.hpp has it
//              load_i32(p)                 `lanes` 32-bit integers
//              load_bytes(p)  put<Storing>(p, bytes|i32)
//              touch(bytes)                keeps a load whose result nobody uses
//   float      splat, + - * /, max_number(x, bound), min_number(x, bound): NaN in x gives the bound;
//              min_or_nan(x, bound): NaN in x stays; round_even(f64), accumulate(before, v),
//              where_zero(x, then, otherwise): by lanes, float32; all_zero(f32): no lane is another number or NaN
//   convert    to_i32(f)                   half to even; below -2^31 or NaN: -2^31; above 2^31 - 1: that, where
//                                          conversion_saturates, else unspecified
//              to<f32|f64>(f32|f64|i32)    one rounding where one is needed
//              from_pattern<f32>(i32 x)    the float of that pattern
//              from_pattern<f64>(i32 x)    2^52 + x, which is unsigned: the double with x below the upper half of 2^52
//   integer    splat_i32, + - & ^, xor3, mul_low, max, shift_left<k>,
//              shift_right_logical<k>, shift_right_arithmetic<k>
//   words      lane_numbers()              0 .. lanes - 1
//              make_words<Interleaved>(x, lower, upper)    in each lane the words of two neighbours: the lower half of
//                                          x ^ lower, and the upper half of x, which is `upper`; lower < 2^16
//              expand(w, a, b)             zero-extended, as a pair
//              load_words<Interleaved>(p)  put_words(p, words<false>)    2 * lanes of them, in element order
//   narrow     narrow4<Interleaved>(a, b, c, d, zero)   two pairs: saturate to int16, add 16-bit `zero`, saturate to
//                                          uint8; 0 <= zero <= 255, and no lane exceeds 32767 - zero, so that the sum
//                                          fits; any lane may be given where conversion_saturates. The codes are
//                                          loose: in an order of their own, which their type tells
//              narrow4_upper(a, b, c, d, u, v, zero)    the same of the upper halves of the lanes, once words
//                                          u are added to the first pair and v to the second
//              sorted(loose)               bytes in element order
//              pack_nibbles(a, b)          2 registers of loose codes 0..15 -> 1, in element order
//              pack_crumbs(a, b, c, d)     the same of 4, of codes 0..3; both also of bytes in element order
//              max_u8(loose, bytes), min_u8(loose, bytes)
//              narrow2<Interleaved>(a, b)  a pair: saturate to uint16
//              narrow2_upper(a, b, u, zero)    a pair: upper halves of the lanes once words u are added, plus
//                                          16-bit `zero`, modulo 2^16
//              splat_u8, splat_u16, splat_pattern, max_u16, bytes ^ bytes, bytes & bytes
//   extent     higher<bits>(x, top), lower<bits>(x, bottom)    patterns of floats, zero among them: the largest as
//                                          signed integers, as unsigned ones; or by comparing floats, which may drop
//                                          a NaN in x
//              keep_nans<bits>(bottom, a, b)   all ones, a NaN themselves, where a or b hold a NaN that may have been
//                                          dropped, else bottom
//              below_zero<bits>(x)         patterns of negative numbers stay, those of others become +0; this and
//              ends<bits>(top, bottom, highest, lowest)    the largest pattern of `top` as signed integers, of
//                                          `bottom` as unsigned ones, in low bits: for 16 and 32 bits
//   table      make_table(float[16])       table32        lookup<Bits, Interleaved>(p, table32, f32[4])
//              make_table(uint16_t[16])    table16        lookup<Bits>(p, table16, bytes[2])
//                                          4 * lanes fields of 2 or 4 bits at p, each replaced by its entry
//              looks_up_floats<Bits>       constant: that is quicker than to calculate float32 from such fields. Else
//                                          table32 and what takes it may lack them
//   pairs      where any type interleaves, for simd/interleaved.hpp:
//              load_codes4_in_order<Bits>, lookup_in_order<Bits>
//              as_words(i32)               words<false>, two to a lane
//              as_words<Bits>(p)           2 * lanes fields of 8 or 16 bits as 16-bit words
//              paired_fields<Bits>(p, k)   fields of pair k, the even one of each lane below the odd one
//              entries_of(i32, table32)    the entries that the low bits stand for
//
// All results but pairs and loose codes are in element order. Pointers need no alignment, except that
// Store::non_temporal wants whole 64-byte lines written back to back from an aligned address. The scalar instruction
// set has no vectors and no header here: its kernels are the element loops of kernels/elementwise.hpp, the model that
// the others are compared with.
#pragma once

#include "core/types.hpp"

namespace piquant {
namespace {
namespace simd {

enum class Store { cached, non_temporal };  // non_temporal: bypassing the caches

}  // namespace simd
}  // namespace
}  // namespace piquant

#if defined(PIQUANT_SIMD_AVX512)
#include "simd/avx512_codes.hpp"
#elif defined(PIQUANT_SIMD_AVX2)
#include "simd/avx2_codes.hpp"
#elif defined(PIQUANT_SIMD_SSE42)
#include "simd/sse42_codes.hpp"
#elif defined(PIQUANT_SIMD_NEON)
#include "simd/neon_codes.hpp"
#else
#error "no vector vocabulary for this instruction set"
#endif
