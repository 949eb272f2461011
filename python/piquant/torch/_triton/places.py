"""Where elements and their parameters lie, how tiles are read and written, and how codes share bytes.

A *line* is the last dimension of a plan. It is cut into *segments*, each of which is a row of a tile, ``ROWS * COLS``
elements that a program handles. A segment is as long as a tile is wide, or as a block, if that is shorter. Up to three
dimensions lie outside of lines. Offsets count elements; on the side of packed codes, bytes.

Masks that end anywhere would make the hardware move element by element. Where all rows end at multiples of 16
(``EVEN``), that is made to be seen; elsewhere programs of which all rows are full come first, and have no masks.
"""

import triton
import triton.language as tl

# How parameters are found: they are numbers; a segment needs one entry of the arrays; or each element its own, by its
# block along the line or, where blocks have one element, by its column.
NUMBERS: tl.constexpr = tl.constexpr(0)
OF_SEGMENTS: tl.constexpr = tl.constexpr(1)
OF_ELEMENTS: tl.constexpr = tl.constexpr(2)
OF_COLUMNS: tl.constexpr = tl.constexpr(3)


@triton.jit
def array(address, DTYPE: tl.constexpr):
    """Arguments that are addresses are pointers to bytes."""
    return address.to(tl.pointer_type(DTYPE), bitcast=True)


@triton.jit
def places(address, rows, step, DTYPE: tl.constexpr, ALIGNED: tl.constexpr, COLS: tl.constexpr, WIDTH: tl.constexpr):
    """Pointers to the elements of a tile. ``rows`` are offsets of its rows; that these are multiples of 16 is made to
    be seen. A thread moves ``WIDTH`` neighbours at once: as many on either side, so that none change threads."""
    j = tl.arange(0, COLS)[None, :]
    if ALIGNED:
        rows = rows // 16 * 16
        j = tl.max_contiguous(j, [1, WIDTH])
    else:
        j = j * step
    return array(address, DTYPE) + rows[:, None] + j


@triton.jit
def places_within(count, COLS: tl.constexpr, PER: tl.constexpr, EVEN: tl.constexpr):
    """Which places of a tile rows of ``count`` elements take, ``PER`` in each place."""
    if EVEN:
        count = count // 16 * (16 // PER)
    else:
        count = (count + (PER - 1)) // PER
    return tl.arange(0, COLS)[None, :] < count[:, None]


@triton.jit
def load(p, count, is_whole, PER: tl.constexpr, EVEN: tl.constexpr):
    """The elements of a tile. What is not there is zero."""
    if EVEN:
        x = tl.load(p, places_within(count, p.shape[1], PER, EVEN), other=0)
    elif is_whole:
        x = tl.load(p)
    else:
        x = tl.load(p, places_within(count, p.shape[1], PER, EVEN), other=0)
    return x


@triton.jit
def store(p, x, count, is_whole, PER: tl.constexpr, EVEN: tl.constexpr):
    if EVEN:
        tl.store(p, x, places_within(count, p.shape[1], PER, EVEN))
    elif is_whole:
        tl.store(p, x)
    else:
        tl.store(p, x, places_within(count, p.shape[1], PER, EVEN))


@triton.jit
def add_dimension(
    at_in, at_out, at_params, number, IS_LAST: tl.constexpr, size, in_stride, out_stride, block, params
):  # fmt: skip
    """Adds what a position along one dimension outside of lines adds. Returns what is left of the line's number."""
    if IS_LAST:
        i = number
    else:
        i = number % size.to(number.dtype)
        number = number // size.to(number.dtype)
    at_in += i.to(tl.int64) * in_stride
    at_out += i.to(tl.int64) * out_stride
    at_params += (i // block.to(number.dtype)).to(tl.int64) * params
    return at_in, at_out, at_params, number


@triton.jit
def rows_of_tile(
    program, segments, per_line,
    a_size, a_in, a_out, a_block, a_params, b_size, b_in, b_out, b_block, b_params,
    c_size, c_in, c_out, c_block, c_params,
    OUTER: tl.constexpr, ROWS: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """Of the rows of a tile: the number of the line, that of the segment within it, whether there is one, and
    offsets of lines on both sides and in the arrays of parameters. Dimension ``a`` is next to lines."""
    number = program.to(INDEX) * ROWS + tl.arange(0, ROWS).to(INDEX)
    is_there = number < segments.to(INDEX)
    line = number * 0
    if OUTER > 0:
        line = number // per_line.to(INDEX)
        number = number % per_line.to(INDEX)
    at_in = line.to(tl.int64) * 0
    at_out = at_in
    at_params = at_in
    rest = line
    if OUTER >= 1:
        at_in, at_out, at_params, rest = add_dimension(
            at_in, at_out, at_params, rest, OUTER == 1, a_size, a_in, a_out, a_block, a_params
        )
    if OUTER >= 2:
        at_in, at_out, at_params, rest = add_dimension(
            at_in, at_out, at_params, rest, OUTER == 2, b_size, b_in, b_out, b_block, b_params
        )
    if OUTER >= 3:
        at_in, at_out, at_params, rest = add_dimension(
            at_in, at_out, at_params, rest, True, c_size, c_in, c_out, c_block, c_params
        )
    return line, number, is_there, at_in, at_out, at_params


@triton.jit
def first_of_tile(program, per_line, size, length, OUTER: tl.constexpr, ROWS: tl.constexpr):
    """The position of a tile's first element in row-major order. Segments are of ``length`` elements."""
    number = program.to(tl.int64) * ROWS
    if OUTER == 0:
        return number * length
    else:
        return number // per_line * size + number % per_line * length


@triton.jit
def pairs_joined(even, odd, ROWS: tl.constexpr, COLS: tl.constexpr):
    return tl.reshape(tl.join(even, odd), (ROWS, COLS))


@triton.jit
def packed(codes, BITS: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Bytes of narrow codes, lowest bits first."""
    if BITS == 4:
        even, odd = tl.split(tl.reshape(codes, (ROWS, COLS // 2, 2)))
        return ((even & 15) | (odd << 4)).to(tl.int8)
    else:
        even, odd = tl.split(tl.reshape(codes & 3, (ROWS, COLS // 4, 2, 2)))
        first, third = tl.split(even)
        second, fourth = tl.split(odd)
        return (first | (second << 2) | (third << 4) | (fourth << 6)).to(tl.int8)


@triton.jit
def unpacked(memory, BITS: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """The fields of bytes, zero-extended."""
    b = memory.to(tl.int32) & 255
    if BITS == 4:
        return pairs_joined(b & 15, b >> 4, ROWS, COLS)
    else:
        even = tl.join(b & 3, (b >> 4) & 3)
        odd = tl.join((b >> 2) & 3, b >> 6)
        return tl.reshape(tl.join(even, odd), (ROWS, COLS))
