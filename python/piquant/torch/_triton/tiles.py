"""How the elements of a plan are cut into tiles: what of a launch depends on the form of a call alone."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, NamedTuple

from piquant._dtypes import BITS, DTYPE_ID, NAMES
from piquant.torch._triton.launch import NONE
from piquant.torch._triton.places import NUMBERS, OF_COLUMNS, OF_ELEMENTS, OF_SEGMENTS
from piquant.torch._triton.random_words import ANYWHERE, NO_WORDS, WITHIN_PERIOD

QUANTIZE, DEQUANTIZE, QUANTIZE_DEQUANTIZE, COMPUTE_PARAMS, QUANTIZE_DYNAMIC = range(5)
"""Of ``piquant_operation_t``."""

BYTES: Final = tuple(max(bits // 8, 1) for bits in BITS)
"""Of an element, or of several packed codes, by dtype id."""

OUTER: Final = 3
"""Dimensions outside of lines that kernels take."""

_FLOAT32, _FLOAT64 = DTYPE_ID["float32"], DTYPE_ID["float64"]
_INT32, _INT64 = DTYPE_ID["int32"], DTYPE_ID["int64"]

# A program takes this many elements.
_TILE: Final = 4096
# One that makes floats of codes makes this many bytes of them, of which a thread stores 16 twice: such programs mostly
# write, and small ones keep memory busier.
_FLOAT_BYTES: Final = 4096
# Elements of a block that stays in registers; of one that a program may read twice, beyond which many programs share
# it, as they do of fewer such blocks than keep a device busy.
_LONGEST: Final = 8192
_FARTHEST: Final = 1 << 18
_ENOUGH: Final = 64
_ONE_ENTRY: Final = 1 << 30
_WARPS: Final = 4
_PACKED: Final = 2


class Dimension(NamedTuple):
    """One of ``piquant_dimension_t``."""

    size: int
    in_stride: int
    out_stride: int
    block: int
    params: int


class Form(NamedTuple):
    """What a launch depends on beside the addresses and numbers that are its arguments."""

    operation: int
    real: int
    code: int
    has_blocks: bool
    scale_dtype: int
    zero_dtype: int
    stochastic: int
    add: int
    symmetric: int
    nan_scales: int
    in_beyond: int  # bytes beyond a multiple of 16
    out_beyond: int
    offset_beyond: int  # elements beyond a multiple of the longest tile
    dims: tuple[tuple[int, ...], ...]

    @property
    def has_codes(self) -> bool:
        return self.operation in (QUANTIZE, QUANTIZE_DYNAMIC)

    @property
    def in_bytes(self) -> int:
        return BYTES[self.code if self.operation == DEQUANTIZE else self.real]

    @property
    def out_bytes(self) -> int:
        return BYTES[self.code if self.has_codes else self.real]


class Launch(NamedTuple):
    """How a kernel is launched: the last of its arguments, and its constants."""

    programs: int
    warps: int
    arguments: tuple[int, ...]
    constants: tuple[int, ...]


class _Tiles(NamedTuple):
    """See places.py. ``length`` is that of a segment."""

    rows: int
    cols: int
    length: int
    params: int
    per_entry: int
    warps: int


def _power_within(n: int) -> int:
    """The largest power of two that divides n."""
    return n & -n


def _power_above(n: int) -> int:
    return 1 << max(n - 1, 15).bit_length()


def compute_dtype(real: int) -> int:
    return _FLOAT64 if real == _FLOAT64 else _FLOAT32


def is_narrow(real: int, code: int) -> bool:
    return real != _FLOAT64 and BITS[code] <= 16


def lowest_code(code: int) -> int:
    return -(1 << BITS[code] - 1) if NAMES[code].startswith("int") else 0


def _elements(form: Form) -> list[Dimension]:
    """Dimensions whose strides count elements, or bytes of packed codes, which lie side by side."""
    dims = [
        Dimension(n, a // form.in_bytes, b // form.out_bytes, block, params) for n, a, b, block, params in form.dims
    ]
    if BITS[form.code] < 8 and form.has_codes:
        dims[-1] = dims[-1]._replace(out_stride=1)
    elif BITS[form.code] < 8 and form.operation == DEQUANTIZE:
        dims[-1] = dims[-1]._replace(in_stride=1)
    return dims


def _tiles(form: Form, dims: list[Dimension]) -> _Tiles:
    """For elements whose parameters are known, or gathered."""
    line = dims[-1]
    tile = _FLOAT_BYTES // form.out_bytes if form.operation == DEQUANTIZE else _TILE
    even = _power_within(line.size)
    cols = min(even, 1024) if even >= 128 else min(_power_above(line.size), 1024)
    params, per_entry = OF_SEGMENTS, _ONE_ENTRY
    if not form.has_blocks:
        params = NUMBERS
    elif line.block < line.size:
        if line.block % 16 == 0:
            cols = min(_power_within(line.block), tile)
            per_entry = line.block // cols
        else:
            params = OF_COLUMNS if line.block == 1 else OF_ELEMENTS
    if len(dims) == 1 and per_entry == _ONE_ENTRY:
        cols = tile
    return _Tiles(max(tile // cols, 1), cols, cols, params.value, per_entry, _WARPS * max(cols // tile, 1))


def _launch(
    form: Form, dims: list[Dimension], tiles: _Tiles, between: tuple[int, ...], constants: tuple[int, ...]
) -> Launch:
    """``between`` are arguments after those of lines."""
    *outer, line = dims
    rows, cols, length, *_ = tiles
    per_line = -(-line.size // length)
    segments = per_line * math.prod(d.size for d in outer)
    whole = 0
    if length % cols == 0:
        whole = line.size // (rows * length) if not outer else 0 if line.size % length else segments // rows
    has_wide_numbers = segments + rows >= 1 << 31
    per_byte = 8 // BITS[form.code] if BITS[form.code] < 8 else 1
    dense = line.in_stride == 1 and (line.out_stride == 1 or form.operation == COMPUTE_PARAMS)

    def aligned(beyond: int, stride: int, is_packed: bool) -> bool:
        apart = [length // per_byte if is_packed else length, *(d[stride] for d in outer)]
        return dense and beyond == 0 and all(n % 16 == 0 for n in apart)

    arguments = (whole, segments, per_line, line.size, line.in_stride, line.out_stride, *between)
    reversed_ = [*outer[::-1], *[Dimension(1, 0, 0, 1, 0)] * (OUTER - len(outer))]
    return Launch(
        -(-segments // rows),
        tiles.warps,
        (*arguments, *(number for d in reversed_ for number in d)),
        (
            *constants,
            len(outer),
            dense,
            aligned(form.in_beyond, 1, form.operation == DEQUANTIZE),
            aligned(form.out_beyond, 2, form.has_codes),
            line.size % 16 == 0 and length % 16 == 0,
            16 // BYTES[form.real] * (_PACKED if per_byte > 1 and form.operation != DEQUANTIZE else 1),
            rows,
            cols,
            _INT64 if has_wide_numbers else _INT32,
        ),
    )


def _words(form: Form, tiles: _Tiles) -> int:
    if not form.stochastic:
        return int(NO_WORDS.value)
    is_aligned = len(form.dims) == 1 and tiles.length % tiles.cols == 0
    tile = tiles.rows * tiles.cols
    return int((WITHIN_PERIOD if is_aligned and form.offset_beyond % tile == 0 else ANYWHERE).value)


@lru_cache(4096)
def conversion(form: Form) -> Launch:
    """Of quantize, quantize_dequantize and dequantize."""
    dims = _elements(form)
    tiles = _tiles(form, dims)
    narrow = is_narrow(form.real, form.code)
    scale, zero = (form.scale_dtype, form.zero_dtype) if form.has_blocks else (NONE, NONE)
    lowest = lowest_code(form.code)
    real = form.real, compute_dtype(form.real), BITS[form.code]
    params = tiles.params, scale, zero
    has_nans = form.has_blocks and form.nan_scales != 0
    constants: tuple[int, ...]
    if form.operation == DEQUANTIZE:
        constants = (*real, lowest, narrow, form.add, has_nans, *params)
    else:
        fused = form.operation == QUANTIZE_DEQUANTIZE
        constants = (*real, (1 << 63) if lowest else 0, narrow, _words(form, tiles), fused, form.add, has_nans, *params)
    line = dims[-1]
    return _launch(form, dims, tiles, (line.block, tiles.per_entry, line.params), constants)


@lru_cache(4096)
def finding_in_blocks(form: Form) -> Launch | None:
    """Of parameters, and of codes, by programs that each have whole blocks; None where no program could."""
    dims = _elements(form)
    *outer, line = dims
    bits = BITS[form.code]
    blocks = -(-line.size // line.block)
    shares_bytes = form.has_codes and blocks > 1 and line.block * bits % 8 != 0
    is_too_long = line.block > _FARTHEST or (
        line.block > _LONGEST and blocks * math.prod(d.size for d in outer) < _ENOUGH
    )
    if len(outer) > OUTER or shares_bytes or is_too_long or any(d.block != 1 for d in outer):
        return None
    is_long = line.block > _LONGEST
    cols = _TILE if is_long else _power_above(line.block)
    # Warps that share a block wait for each other: fewer, with more elements each, wait less. With packed codes, too,
    # two were measured to be quicker than four.
    warps = _WARPS // 2 if form.has_codes and (bits < 8 or line.block >= 128) else _WARPS
    warps *= max(cols // _TILE, 1)
    tiles = _Tiles(max(_TILE // cols, 1), cols, line.block, OF_SEGMENTS.value, 1, warps)
    lowest = lowest_code(form.code)
    constants = (
        form.real, compute_dtype(form.real), bits, (1 << 63) if lowest else 0, is_narrow(form.real, form.code),
        _words(form, tiles), form.symmetric, form.nan_scales, form.scale_dtype, form.zero_dtype,
        form.has_codes, is_long,
    )  # fmt: skip
    return _launch(form, dims, tiles, (line.block, -(-line.block // cols), line.params), constants)


@lru_cache(4096)
def finding_across(form: Form) -> Launch:
    """Of extents that programs gather, each of what it reads."""
    dims = _elements(form)
    *outer, line = dims
    tiles = _tiles(form, dims)
    is_down = False
    if tiles.params == OF_COLUMNS.value and len(outer) == 1:
        lines = min(_power_within(math.gcd(outer[0].size, outer[0].block)), 64)
        is_down = lines >= 4
        if is_down:
            tiles = tiles._replace(rows=lines, cols=_TILE // 64, length=_TILE // 64)
    constants = form.real, compute_dtype(form.real), form.symmetric, tiles.params, is_down
    return _launch(form, dims, tiles, (line.block, tiles.per_entry, line.params), constants)


_ENTRIES: Final = 256
"""Entries that a program settles."""


def settling(form: Form, blocks: int) -> Launch:
    """Of parameters by extents that were gathered."""
    constants = (
        compute_dtype(form.real), is_narrow(form.real, form.code), form.symmetric, form.nan_scales, form.scale_dtype,
        form.zero_dtype, _ENTRIES,
    )  # fmt: skip
    return Launch(-(-blocks // _ENTRIES), 4, (), constants)
