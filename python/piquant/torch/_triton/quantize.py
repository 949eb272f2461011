"""Floats to codes, and to codes and back."""

import triton
import triton.language as tl

from piquant.torch._triton.dequantize import store_values
from piquant.torch._triton.launch import kernel
from piquant.torch._triton.parameters import entries_of, load_scale, load_zero, number_of, of_rows, reciprocal
from piquant.torch._triton.places import (
    NUMBERS,
    first_of_tile,
    load,
    packed,
    places,
    places_within,
    rows_of_tile,
    store,
)
from piquant.torch._triton.random_words import NO_WORDS, words_of_tile
from piquant.torch._triton.semantics import clamped_steps, raised_codes, value_of_code


@triton.jit
def codes_of(
    x, inverse, zero, low, high, u,
    T: tl.constexpr, NARROW: tl.constexpr, SIGN: tl.constexpr, STOCHASTIC: tl.constexpr, NANS: tl.constexpr,
):  # fmt: skip
    """Codes of a tile as int32, or as 64 bits in offset binary. Zero points and the range are int64.

    ``NANS``: scales may be NaN, of which codes are 0.
    """
    y = x.to(T) * inverse
    if NARROW:
        below = (low - zero).to(tl.int32).to(tl.float32)
        above = (high - zero).to(tl.int32).to(tl.float32)
        if NANS:
            below = tl.where(inverse != inverse, (0 - zero).to(tl.int32).to(tl.float32), below)
        return clamped_steps(y, below, above, zero.to(tl.int32), u, STOCHASTIC)
    else:
        sign = tl.full((), SIGN, tl.uint64)
        zero = zero.to(tl.uint64, bitcast=True) ^ sign
        low = low.to(tl.uint64, bitcast=True) ^ sign
        high = high.to(tl.uint64, bitcast=True) ^ sign
        codes = raised_codes(y, low, high, zero, u, STOCHASTIC)
        if NANS:
            codes = tl.where(inverse != inverse, sign, codes)
        return codes


@triton.jit
def store_codes(
    out, at, codes, out_step, count, is_whole,
    BITS: tl.constexpr, SIGN: tl.constexpr, NARROW: tl.constexpr, ALIGNED: tl.constexpr, EVEN: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """``at`` are offsets of rows, each of which has ``count`` elements."""
    if not NARROW:
        codes = codes ^ tl.full((), SIGN, tl.uint64)
    if BITS < 8:
        per: tl.constexpr = 8 // BITS
        codes = codes.to(tl.int32)
        if not EVEN:  # fields beyond the end of a row are zero
            codes = tl.where(places_within(count, COLS, 1, EVEN), codes, 0)
        p = places(out, at, 1, tl.int8, ALIGNED, COLS // per, WIDTH // per)
        store(p, packed(codes, BITS, ROWS, COLS), count, is_whole, per, EVEN)
    else:
        dtype: tl.constexpr = tl.int8 if BITS == 8 else tl.int16 if BITS == 16 else tl.int32 if BITS == 32 else tl.int64
        p = places(out, at, out_step, dtype, ALIGNED, COLS, WIDTH)
        store(p, codes.to(dtype), count, is_whole, 1, EVEN)


@kernel
def quantize(
    in_, out, scales, zeros,
    scale: tl.int64, inverse: tl.int64, zero: tl.int64, low: tl.int64, high: tl.int64, seed: tl.int64, offset: tl.int64,
    whole: tl.int64, segments: tl.int64, per_line: tl.int64, size: tl.int64,
    in_step: tl.int64, out_step: tl.int64, block: tl.int64, per_entry: tl.int64, param_step: tl.int64,
    a_size: tl.int64, a_in: tl.int64, a_out: tl.int64, a_block: tl.int64, a_params: tl.int64,
    b_size: tl.int64, b_in: tl.int64, b_out: tl.int64, b_block: tl.int64, b_params: tl.int64,
    c_size: tl.int64, c_in: tl.int64, c_out: tl.int64, c_block: tl.int64, c_params: tl.int64,
    FLOAT: tl.constexpr, T: tl.constexpr, BITS: tl.constexpr, SIGN: tl.constexpr, NARROW: tl.constexpr,
    WORDS: tl.constexpr, FUSED: tl.constexpr, ADD: tl.constexpr, NANS: tl.constexpr,
    PARAMS: tl.constexpr, SCALE: tl.constexpr, ZERO: tl.constexpr,
    OUTER: tl.constexpr, DENSE: tl.constexpr, IN_ALIGNED: tl.constexpr, OUT_ALIGNED: tl.constexpr,
    EVEN: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    in_step = 1 if DENSE else in_step
    out_step = 1 if DENSE else out_step
    is_whole = program < whole.to(tl.int32)
    line, segment, is_there, at_in, at_out, at_params = rows_of_tile(
        program, segments, per_line, a_size, a_in, a_out, a_block, a_params,
        b_size, b_in, b_out, b_block, b_params, c_size, c_in, c_out, c_block, c_params, OUTER, ROWS, INDEX,
    )  # fmt: skip
    first = segment.to(tl.int64) * COLS
    count = tl.where(is_there, tl.minimum(size - first, COLS), 0).to(tl.int32)
    x = load(places(in_, at_in + first * in_step, in_step, FLOAT, IN_ALIGNED, COLS, WIDTH), count, is_whole, 1, EVEN)
    if PARAMS == NUMBERS:
        factor = number_of(scale, T)
        inverse_of = number_of(inverse, T)
        zero_of = zero.to(tl.int64)
    else:
        entries, known = entries_of(at_params, segment, first, count, block, per_entry, param_step, PARAMS, COLS)
        loaded = load_scale(scales, entries, known, SCALE)
        factor = of_rows(loaded.to(T), PARAMS)
        inverse_of = of_rows(reciprocal(loaded, T), PARAMS)
        zero_of = load_zero(zeros, zero, entries, known, ZERO)
        if ZERO is not None:
            zero_of = of_rows(zero_of, PARAMS)
    start = first_of_tile(program, per_line, size, COLS, OUTER, ROWS)
    u = words_of_tile(seed, offset, start, line.to(tl.int64) * size + first, WORDS, ROWS, COLS)
    codes = codes_of(
        x, inverse_of, zero_of, low.to(tl.int64), high.to(tl.int64), u, T, NARROW, SIGN, WORDS != NO_WORDS, NANS
    )
    if FUSED:
        if NARROW:
            values = (codes - zero_of.to(tl.int32)).to(tl.float32) * factor
        else:
            values = value_of_code(codes, zero_of.to(tl.uint64, bitcast=True) ^ tl.full((), SIGN, tl.uint64), factor)
        p = places(out, at_out + first * out_step, out_step, FLOAT, OUT_ALIGNED, COLS, WIDTH)
        store_values(p, values, factor, count, is_whole, FLOAT, ADD, NANS, EVEN)
    else:
        at = at_out + first * BITS // 8 if BITS < 8 else at_out + first * out_step
        store_codes(out, at, codes, out_step, count, is_whole, BITS, SIGN, NARROW, OUT_ALIGNED, EVEN, WIDTH, ROWS, COLS)
