"""torch's side of piquant.torch: its dtypes, where the elements of a tensor are, and what is wrong with a tensor."""

from __future__ import annotations

import contextlib
from typing import Final, NamedTuple, NoReturn

import torch

from piquant import _native
from piquant._dtypes import CODES, FLOAT_COUNT, OVERLAP, extent, packed_shape, refuse, shown
from piquant._outputs import ADVISED_FROM, KEPT_FROM, allocated


class Target(NamedTuple):
    """A torch dtype that stands for a quantized type."""

    code: int  # number of the quantized type
    storage: torch.dtype  # dtype of the tensor that holds the codes
    packed_bits: int  # bits per code where the last dimension is packed, else 0
    carries_params: bool  # whether the tensor holds scale and zero point itself
    stored: int  # number of the plain dtype that holds the codes, -1 where torch's own quantized dtype does
    per_byte: int  # codes in a byte where the last dimension is packed, else 1


FLOATS: Final = {
    torch.float16: CODES["float16"],
    torch.bfloat16: CODES["bfloat16"],
    torch.float32: CODES["float32"],
    torch.float64: CODES["float64"],
}

# By name, too: the stubs of torch lack the narrow dtypes, and torch itself did before 2.6.
FLOATS_BY_NAME: Final = {name: getattr(torch, name) for name in ("float16", "bfloat16", "float32", "float64")}

_PLAIN: Final = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
_PACKED: Final = (("uint4", 4), ("int4", 4), ("uint2", 2), ("int2", 2))
_NAMED: Final = {name: Target(CODES[name], getattr(torch, name), 0, False, CODES[name], 1) for name in _PLAIN} | {
    name: Target(CODES[name], torch.uint8, bits, False, CODES["uint8"], 8 // bits) for name, bits in _PACKED
}
TARGETS: Final[dict[object, Target]] = {
    torch.quint8: Target(CODES["uint8"], torch.quint8, 0, True, -1, 1),
    torch.qint8: Target(CODES["int8"], torch.qint8, 0, True, -1, 1),
    torch.qint32: Target(CODES["int32"], torch.qint32, 0, True, -1, 1),
    torch.quint4x2: Target(CODES["uint4"], torch.quint4x2, 0, True, -1, 1),
    torch.quint2x4: Target(CODES["uint2"], torch.quint2x4, 0, True, -1, 1),
}
SPELLINGS: Final = (torch.dtype, str)  # what may be looked up there
TARGETS.update((getattr(torch, name), target) for name, target in _NAMED.items() if hasattr(torch, name))
TARGETS.update(_NAMED.items())

_native.use_tensor_type(torch.Tensor)

STRIDED: Final = torch.strided
CPU: Final = torch.device("cpu")  # takes less time than its name does
SMALL: Final = ADVISED_FROM // 8  # elements: results of fewer need no advice, whatever their dtype
BIT_PACKED: Final = frozenset((torch.quint4x2, torch.quint2x4))

_FLOAT_WORDS: Final = ", ".join(str(d) for d in FLOATS)
_TARGET_WORDS: Final = ", ".join(str(d) for d in TARGETS if not isinstance(d, str))


def refuse_float(dtype: object) -> NoReturn:
    refuse(f"dtype must be one of {_FLOAT_WORDS}, or the name of one, got {shown(dtype)}", dtype)


def target_of(dtype: object, argument: str) -> Target:
    target = TARGETS.get(dtype) if isinstance(dtype, SPELLINGS) else None
    if target is None:
        refuse(f"{argument} must be one of {_TARGET_WORDS}, or a name such as 'int4', got {shown(dtype)}", dtype)
    return target


def source_of(q: torch.Tensor, source_dtype: torch.dtype | str | None) -> Target:
    if not isinstance(q, torch.Tensor):
        raise TypeError(f"q must be a torch.Tensor, got {type(q).__name__}")
    stored = TARGETS.get(q.dtype)
    if stored is None or stored.packed_bits:
        raise TypeError(f"q must be of one of {_TARGET_WORDS} (sub-byte codes packed in torch.uint8), got {q.dtype}")
    if source_dtype is None:
        return stored
    source = target_of(source_dtype, "source_dtype")
    if source.storage != q.dtype:
        raise TypeError(f"source_dtype {source_dtype} is stored as {source.storage}, but q is of {q.dtype}")
    return source


def plain_floats(x: torch.Tensor) -> tuple[torch.Tensor, int, int, int]:
    """``x``, of a float dtype, as contiguous elements in memory; their address, the number of the dtype, how many."""
    seen = _native.plain_tensor(x)
    if seen is not None and seen[1] < FLOAT_COUNT:
        return x, *seen
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
    code = FLOATS.get(x.dtype)
    if code is None:
        raise TypeError(f"x must be of one of {_FLOAT_WORDS}, got {x.dtype}")
    if not (x.is_cpu and x.layout is STRIDED and not x.is_nested and x.is_contiguous()) or x.is_neg():
        x = plain(x, "x")
    return x, address_of(x, "x"), code, x.numel()


def plain(x: torch.Tensor, argument: str) -> torch.Tensor:
    """``x`` as contiguous elements in memory, where it is not that already."""
    check_place(x, argument)
    if x.dtype in BIT_PACKED and not (x.is_contiguous() and x.storage_offset() == 0):
        # torch counts the elements of these dtypes as whole bytes, so a view's address is not where its codes are.
        raise ValueError(f"{argument} of {x.dtype} must be whole and contiguous, got a view with strides {x.stride()}")
    try:
        return x.contiguous().resolve_neg()
    except RuntimeError as error:  # what torch's allocator raises
        raise MemoryError(f"{argument} of shape {tuple(x.shape)} has no room in memory as a contiguous copy") from error


def check_place(x: torch.Tensor, argument: str) -> None:
    if not x.is_cpu or x.layout is not torch.strided or x.is_nested:
        given = "a nested tensor" if x.is_nested else f"device {x.device}, layout {x.layout}"
        raise TypeError(f"{argument} must be strided and on the CPU, got {given}")


def address_of(x: torch.Tensor, argument: str) -> int:
    """Where the elements of a contiguous tensor are."""
    try:
        address = x.data_ptr()
    except RuntimeError:  # within torch.vmap
        address = 0
    if address == 0 and x.numel() > 0:
        raise TypeError(
            f"{argument} must have its elements in memory, got a {type(x).__name__} that only stands for them"
        )
    return address


def small_result(like: torch.Tensor, dtype: torch.dtype, per_byte: int = 1) -> torch.Tensor | None:
    """As ``empty``, in less time, of the shape of a tensor, packed or not; None if it is large, or no plain tensor."""
    if type(like) is not torch.Tensor or like.is_quantized or like.numel() >= SMALL:
        return None
    if per_byte == 1:
        return torch.empty_like(like, dtype=dtype)
    return torch.empty(packed_shape(like.shape, 8 // per_byte), dtype=dtype, device=CPU)


def empty(shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """A tensor for results, not filled."""
    nbytes = shape.numel() * dtype.itemsize
    if nbytes >= KEPT_FROM:
        memory = _native.output_memory(nbytes)
        # resize_ and not view, whose result would be a view of another tensor. Within a FakeTensorMode it is refused.
        if memory is not None:
            with contextlib.suppress(AssertionError):
                return torch.frombuffer(memory, dtype=dtype).resize_(shape)

    def new() -> torch.Tensor:
        try:
            # A tuple: torch takes half a microsecond longer for a torch.Size.
            return torch.empty(tuple(shape), dtype=dtype, device=CPU)
        except RuntimeError as error:  # what torch's allocator raises
            raise MemoryError(
                f"the result of shape {tuple(shape)} and {dtype} has no room in memory; give out"
            ) from error

    return _advised(allocated(new), nbytes)


def fresh_codes(shape: torch.Size, target: Target, scale: float, zero_point: int) -> torch.Tensor:
    if target.carries_params:  # torch wants the very types; anything that is a number was right so far
        codes = torch._empty_affine_quantized(
            tuple(shape), scale=float(scale), zero_point=int(zero_point), dtype=target.storage, device=CPU
        )
        return _advised(codes, shape.numel() * target.storage.itemsize)
    return empty(shape, target.storage)


def _advised(fresh: torch.Tensor, at_most: int) -> torch.Tensor:
    if at_most >= ADVISED_FROM:
        _native.prepare_output(address_of(fresh, "the result"), fresh.untyped_storage().nbytes())
    return fresh


def refuse_overlap(x: torch.Tensor, used: torch.Tensor, out: torch.Tensor) -> None:
    """For an input of which a copy is used, as the native module sees the copy only."""
    if used is x or not x.is_cpu or x.is_nested or x.layout is not STRIDED:
        return
    size = x.element_size()
    begin, end = extent(x.data_ptr(), tuple(x.shape), tuple(stride * size for stride in x.stride()), size)
    if begin < out.data_ptr() + out.numel() * out.element_size() and out.data_ptr() < end:
        raise ValueError(OVERLAP)


def check_out(out: torch.Tensor, shape: torch.Size, dtype: torch.dtype) -> None:
    if not isinstance(out, torch.Tensor):
        raise TypeError(f"out must be a torch.Tensor or None, got {type(out).__name__}")
    if out.dtype is not dtype:
        raise TypeError(f"out must be of {dtype}, got {out.dtype}")
    if not (out.is_cpu and out.layout is STRIDED and not out.is_nested):
        check_place(out, "out")
    if out.shape != shape:
        raise ValueError(f"out must have shape {tuple(shape)}, got {tuple(out.shape)}")
    if dtype in FLOATS:
        if out.is_neg():
            raise ValueError("out must not be a view of negated values, got one")
        if out.requires_grad and torch.is_grad_enabled():
            raise ValueError("out must not require a gradient while gradients are recorded, got one that does")
    if not out.is_contiguous() or (dtype in BIT_PACKED and out.storage_offset() != 0):
        raise ValueError(f"out must be whole and contiguous, got strides {out.stride()} for shape {tuple(out.shape)}")


def check_params(out: torch.Tensor, scale: float, zero_point: int) -> None:
    try:
        scheme = out.qscheme()
    except RuntimeError:  # made by torch.empty: it carries none, and says so when asked
        return
    if scheme != torch.per_tensor_affine:
        raise ValueError(f"out must carry one scale and zero point (torch.per_tensor_affine), got {scheme}")
    carried = out.q_scale(), out.q_zero_point()
    if carried != (scale, zero_point):
        raise ValueError(
            f"out must carry the scale and zero_point that are given, scale={scale}, zero_point={zero_point}; "
            f"got one that carries scale={carried[0]}, zero_point={carried[1]}"
        )


def fresh_seed() -> int:
    return int(torch.empty((), dtype=torch.int64, device="cpu").random_().item())
