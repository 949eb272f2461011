"""Codes to floats, set and added."""

import triton
import triton.language as tl

from piquant.torch._triton.launch import kernel
from piquant.torch._triton.parameters import entries_of, load_scale, load_zero, number_of, of_rows
from piquant.torch._triton.places import NUMBERS, load, places, rows_of_tile, store, unpacked
from piquant.torch._triton.semantics import accumulated, default_nan, pattern_of, value_of_code, value_of_field


@triton.jit
def store_values(
    p, values, factor, count, is_whole, FLOAT: tl.constexpr, ADD: tl.constexpr, NANS: tl.constexpr, EVEN: tl.constexpr
):  # fmt: skip
    """Sets values of type T, or adds them to what is there. ``NANS``: factors may be NaN, and make the default one."""
    bits: tl.constexpr = tl.int64 if FLOAT == tl.float64 else tl.int32 if FLOAT == tl.float32 else tl.int16
    if ADD:
        before = load(p, count, is_whole, 1, EVEN)
        store(p.to(tl.pointer_type(bits), bitcast=True), accumulated(before, values, FLOAT), count, is_whole, 1, EVEN)
    elif NANS:
        made = tl.where(factor != factor, default_nan(FLOAT), pattern_of(values.to(FLOAT)))
        store(p.to(tl.pointer_type(bits), bitcast=True), made, count, is_whole, 1, EVEN)
    else:
        store(p, values.to(FLOAT), count, is_whole, 1, EVEN)


@triton.jit
def load_fields(
    in_, at, in_step, count, is_whole,
    BITS: tl.constexpr, ALIGNED: tl.constexpr, EVEN: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr,
    COLS: tl.constexpr,
):  # fmt: skip
    """Zero-extended, as int32 or, from 32 bits on, uint64."""
    if BITS < 8:
        per: tl.constexpr = 8 // BITS
        p = places(in_, at, 1, tl.int8, ALIGNED, COLS // per, WIDTH // per)
        return unpacked(load(p, count, is_whole, per, EVEN), BITS, ROWS, COLS)
    else:
        dtype: tl.constexpr = (
            tl.uint8 if BITS == 8 else tl.uint16 if BITS == 16 else tl.uint32 if BITS == 32 else tl.uint64
        )
        p = places(in_, at, in_step, dtype, ALIGNED, COLS, WIDTH)
        return load(p, count, is_whole, 1, EVEN).to(tl.int32 if BITS <= 16 else tl.uint64)


@kernel
def dequantize(
    in_, out, scales, zeros,
    scale: tl.int64, inverse: tl.int64, zero: tl.int64, low: tl.int64, high: tl.int64, seed: tl.int64, offset: tl.int64,
    whole: tl.int64, segments: tl.int64, per_line: tl.int64, size: tl.int64,
    in_step: tl.int64, out_step: tl.int64, block: tl.int64, per_entry: tl.int64, param_step: tl.int64,
    a_size: tl.int64, a_in: tl.int64, a_out: tl.int64, a_block: tl.int64, a_params: tl.int64,
    b_size: tl.int64, b_in: tl.int64, b_out: tl.int64, b_block: tl.int64, b_params: tl.int64,
    c_size: tl.int64, c_in: tl.int64, c_out: tl.int64, c_block: tl.int64, c_params: tl.int64,
    FLOAT: tl.constexpr, T: tl.constexpr, BITS: tl.constexpr, LOWEST: tl.constexpr, NARROW: tl.constexpr,
    ADD: tl.constexpr, NANS: tl.constexpr, PARAMS: tl.constexpr, SCALE: tl.constexpr, ZERO: tl.constexpr,
    OUTER: tl.constexpr, DENSE: tl.constexpr, IN_ALIGNED: tl.constexpr, OUT_ALIGNED: tl.constexpr,
    EVEN: tl.constexpr, WIDTH: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """``LOWEST`` is the lowest code of the type; without it codes and zero points are in offset binary."""
    program = tl.program_id(0)
    in_step = 1 if DENSE else in_step
    out_step = 1 if DENSE else out_step
    is_whole = program < whole.to(tl.int32)
    _, segment, is_there, at_in, at_out, at_params = rows_of_tile(
        program, segments, per_line, a_size, a_in, a_out, a_block, a_params,
        b_size, b_in, b_out, b_block, b_params, c_size, c_in, c_out, c_block, c_params, OUTER, ROWS, INDEX,
    )  # fmt: skip
    first = segment.to(tl.int64) * COLS
    count = tl.where(is_there, tl.minimum(size - first, COLS), 0).to(tl.int32)
    at = at_in + first * BITS // 8 if BITS < 8 else at_in + first * in_step
    fields = load_fields(in_, at, in_step, count, is_whole, BITS, IN_ALIGNED, EVEN, WIDTH, ROWS, COLS)
    if PARAMS == NUMBERS:
        factor = number_of(scale, T)
        zero_of = zero.to(tl.int64)
    else:
        entries, known = entries_of(at_params, segment, first, count, block, per_entry, param_step, PARAMS, COLS)
        factor = of_rows(load_scale(scales, entries, known, SCALE).to(T), PARAMS)
        zero_of = load_zero(zeros, zero, entries, known, ZERO)
        if ZERO is not None:
            zero_of = of_rows(zero_of, PARAMS)
    if NARROW:
        raised = fields ^ -LOWEST
        values = value_of_field(raised, (zero_of - LOWEST).to(tl.int32).to(tl.float32), factor)
    else:
        raised = fields.to(tl.uint64) ^ tl.full((), -LOWEST, tl.uint64)
        lowest = tl.full((), LOWEST, tl.int64)
        values = value_of_code(raised, (zero_of - lowest).to(tl.uint64, bitcast=True), factor)
    p = places(out, at_out + first * out_step, out_step, FLOAT, OUT_ALIGNED, COLS, WIDTH)
    store_values(p, values, factor, count, is_whole, FLOAT, ADD, NANS, EVEN)
