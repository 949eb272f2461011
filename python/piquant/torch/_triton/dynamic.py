"""Parameters of blocks from their data, and codes with them: in one pass, or by extents that programs gather."""

import triton
import triton.language as tl

from piquant.torch._triton.launch import kernel
from piquant.torch._triton.parameters import entries_of, found_parameters, patterns, reciprocal
from piquant.torch._triton.places import OF_SEGMENTS, array, first_of_tile, load, places, rows_of_tile
from piquant.torch._triton.quantize import codes_of, store_codes
from piquant.torch._triton.random_words import NO_WORDS, words_of_tile


@triton.jit
def through_memory(of_rows, ROWS: tl.constexpr):
    """Values of rows, as they are, in other threads: all that hold elements of a row hold what they found of it, but
    one should divide for all."""
    return tl.gather(of_rows, tl.arange(0, ROWS), 0)


@kernel
def quantize_dynamic(
    in_, out, scales, zeros,
    scale: tl.int64, inverse: tl.int64, zero: tl.int64, low: tl.int64, high: tl.int64, seed: tl.int64, offset: tl.int64,
    whole: tl.int64, segments: tl.int64, per_line: tl.int64, size: tl.int64,
    in_step: tl.int64, out_step: tl.int64, block: tl.int64, chunks: tl.int64, param_step: tl.int64,
    a_size: tl.int64, a_in: tl.int64, a_out: tl.int64, a_block: tl.int64, a_params: tl.int64,
    b_size: tl.int64, b_in: tl.int64, b_out: tl.int64, b_block: tl.int64, b_params: tl.int64,
    c_size: tl.int64, c_in: tl.int64, c_out: tl.int64, c_block: tl.int64, c_params: tl.int64,
    FLOAT: tl.constexpr, T: tl.constexpr, BITS: tl.constexpr, SIGN: tl.constexpr, NARROW: tl.constexpr,
    WORDS: tl.constexpr, SYMMETRIC: tl.constexpr, NANS: tl.constexpr, SCALE: tl.constexpr, ZERO: tl.constexpr,
    CODES: tl.constexpr, LONG: tl.constexpr,
    OUTER: tl.constexpr, DENSE: tl.constexpr, IN_ALIGNED: tl.constexpr, OUT_ALIGNED: tl.constexpr,
    EVEN: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """Segments are blocks. Those of up to ``COLS`` elements stay in registers; a longer one is read twice by a program
    of its own, in ``chunks`` pieces, the second time from a cache. Without ``CODES`` only parameters are written."""
    program = tl.program_id(0)
    in_step = 1 if DENSE else in_step
    out_step = 1 if DENSE else out_step
    is_whole = program < whole.to(tl.int32)
    line, segment, is_there, at_in, at_out, at_params = rows_of_tile(
        program, segments, per_line, a_size, a_in, a_out, a_block, a_params,
        b_size, b_in, b_out, b_block, b_params, c_size, c_in, c_out, c_block, c_params, OUTER, ROWS, INDEX,
    )  # fmt: skip
    first = segment.to(tl.int64) * block
    length = tl.where(is_there, tl.minimum(size - first, block), 0).to(tl.int32)
    p = places(in_, at_in + first * in_step, in_step, FLOAT, IN_ALIGNED, COLS, WIDTH)
    x = load(p, length, is_whole, 1, EVEN)
    upper, lower = patterns(x, T, SYMMETRIC)
    if LONG:
        for chunk in range(1, chunks.to(tl.int32)):
            done = chunk * COLS
            x = load(p + done * in_step, length - done, is_whole, 1, EVEN)
            more_upper, more_lower = patterns(x, T, SYMMETRIC)
            upper = tl.maximum(upper, more_upper)
            lower = tl.maximum(lower, more_lower)
    upper = through_memory(tl.maximum(tl.max(upper, axis=1), 0), ROWS)
    lower = upper if SYMMETRIC else through_memory(tl.maximum(tl.max(lower, axis=1), 0), ROWS)
    found, zero_of = found_parameters(upper, lower, zero, low, high, T, NARROW, SYMMETRIC, NANS, SCALE)
    entries = at_params + segment.to(tl.int64) * param_step
    tl.store(array(scales, SCALE) + entries, found, is_there)
    if ZERO is not None:
        tl.store(array(zeros, ZERO) + entries, zero_of.to(ZERO), is_there)
    if not CODES:
        return
    inverse_of = through_memory(reciprocal(found, T), ROWS)[:, None]
    if not SYMMETRIC:
        zero_of = through_memory(zero_of, ROWS)[:, None]
    start = first_of_tile(program, per_line, size, block, OUTER, ROWS)
    positions = line.to(tl.int64) * size + first
    for chunk in range(chunks.to(tl.int32) if LONG else 1):
        done = chunk * COLS
        if LONG:
            x = load(p + done * in_step, length - done, is_whole, 1, EVEN)
        u = words_of_tile(seed, offset, start + done, positions + done, WORDS, ROWS, COLS)
        codes = codes_of(
            x, inverse_of, zero_of, low.to(tl.int64), high.to(tl.int64), u, T, NARROW, SIGN, WORDS != NO_WORDS, NANS
        )
        to = at_out + (first + done) * BITS // 8 if BITS < 8 else at_out + (first + done) * out_step
        store_codes(
            out, to, codes, out_step, length - done, is_whole, BITS, SIGN, NARROW, OUT_ALIGNED, EVEN, WIDTH, ROWS, COLS
        )


@kernel
def find_extents(
    in_, uppers, lowers,
    whole: tl.int64, segments: tl.int64, per_line: tl.int64, size: tl.int64,
    in_step: tl.int64, out_step: tl.int64, block: tl.int64, per_entry: tl.int64, param_step: tl.int64,
    a_size: tl.int64, a_in: tl.int64, a_out: tl.int64, a_block: tl.int64, a_params: tl.int64,
    b_size: tl.int64, b_in: tl.int64, b_out: tl.int64, b_block: tl.int64, b_params: tl.int64,
    c_size: tl.int64, c_in: tl.int64, c_out: tl.int64, c_block: tl.int64, c_params: tl.int64,
    FLOAT: tl.constexpr, T: tl.constexpr, SYMMETRIC: tl.constexpr, PARAMS: tl.constexpr, DOWN: tl.constexpr,
    OUTER: tl.constexpr, DENSE: tl.constexpr, IN_ALIGNED: tl.constexpr, OUT_ALIGNED: tl.constexpr,
    EVEN: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """Raises two patterns of each block, which are 0 before, to those of its extent, in any order.

    ``DOWN``: the rows of a tile are neighbouring lines of one block, whose columns then take one update each.
    """
    program = tl.program_id(0)
    in_step = 1 if DENSE else in_step
    is_whole = program < whole.to(tl.int32)
    if DOWN:
        groups = (a_size // ROWS).to(INDEX)
        line = (program.to(INDEX) % groups) * ROWS + tl.arange(0, ROWS).to(INDEX)
        segment = line * 0 + program.to(INDEX) // groups
        is_there = segment >= 0
        at_in = line.to(tl.int64) * a_in
        at_params = (line // a_block.to(INDEX)).to(tl.int64) * a_params
    else:
        _, segment, is_there, at_in, _, at_params = rows_of_tile(
            program, segments, per_line, a_size, a_in, a_out, a_block, a_params,
            b_size, b_in, b_out, b_block, b_params, c_size, c_in, c_out, c_block, c_params, OUTER, ROWS, INDEX,
        )  # fmt: skip
    first = segment.to(tl.int64) * COLS
    count = tl.where(is_there, tl.minimum(size - first, COLS), 0).to(tl.int32)
    p = places(in_, at_in + first * in_step, in_step, FLOAT, IN_ALIGNED, COLS, WIDTH)
    upper, lower = patterns(load(p, count, is_whole, 1, EVEN), T, SYMMETRIC)
    entries, known = entries_of(at_params, segment, first, count, block, per_entry, param_step, PARAMS, COLS)
    if PARAMS == OF_SEGMENTS:
        upper = tl.max(upper, axis=1)
        lower = tl.max(lower, axis=1)
    elif DOWN:
        upper = tl.max(upper, axis=0)
        lower = tl.max(lower, axis=0)
        entries = tl.max(entries, axis=0)
        known = tl.max(known.to(tl.int32), axis=0) != 0
    bits: tl.constexpr = tl.int64 if T == tl.float64 else tl.int32
    tl.atomic_max(array(uppers, bits) + entries, upper, known, sem="relaxed")
    if not SYMMETRIC:
        tl.atomic_max(array(lowers, bits) + entries, lower, known, sem="relaxed")


@kernel
def settle_parameters(
    uppers, lowers, scales, zeros,
    zero: tl.int64, low: tl.int64, high: tl.int64, entries: tl.int64,
    T: tl.constexpr, NARROW: tl.constexpr, SYMMETRIC: tl.constexpr, NANS: tl.constexpr, SCALE: tl.constexpr,
    ZERO: tl.constexpr,
    COLS: tl.constexpr,
):  # fmt: skip
    """Parameters of the blocks whose extents ``find_extents`` found."""
    entry = tl.program_id(0).to(tl.int64) * COLS + tl.arange(0, COLS)
    mask = entry < entries
    bits: tl.constexpr = tl.int64 if T == tl.float64 else tl.int32
    upper = tl.load(array(uppers, bits) + entry, mask, other=0)
    lower = upper if SYMMETRIC else tl.load(array(lowers, bits) + entry, mask, other=0)
    scale, zero_of = found_parameters(upper, lower, zero, low, high, T, NARROW, SYMMETRIC, NANS, SCALE)
    tl.store(array(scales, SCALE) + entry, scale, mask)
    if ZERO is not None:
        tl.store(array(zeros, ZERO) + entry, zero_of.to(ZERO), mask)
