"""Arguments of the public functions: what may be given, and words for what may not."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.distributed as dist

from piquant import _native
from piquant._context import Context
from piquant._dtypes import refuse, shown
from piquant.distributed._codec import FLOAT_IDS, check_device
from piquant.distributed._plan import Options
from piquant.torch._tensors import DTYPES, draw_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from piquant._dtypes import Integer, RoundModeLike
    from piquant.distributed._plan import Operator

_CODES: Final = ("int8", "int4", "int2")
_DTYPES: Final = {spelled: name for spelled, known in DTYPES.items() for name in _CODES if known is DTYPES[name]}
_WORD: Final = 1 << 64


def read_options(
    dtype: torch.dtype | str | None, block_size: Integer, round_mode: RoundModeLike, segment_bytes: Integer | None
) -> Options:
    """The options of a call, checked."""
    if dtype is not None and (not isinstance(dtype, (str, torch.dtype)) or dtype not in _DTYPES):
        refuse(f"dtype must be 'int8', 'int4', 'int2' or None, got {shown(dtype)}", dtype)
    return Options(
        None if dtype is None else _DTYPES[dtype],
        read_whole(block_size, "block_size"),
        _native.is_stochastic(round_mode),
        None if segment_bytes is None else read_whole(segment_bytes, "segment_bytes"),
    )


def read_whole(value: Any, argument: str, least: int = 1) -> int:
    words = f"{argument} must be an int of at least {least}, got {shown(value)}"
    try:
        number = index(value)
    except TypeError:
        raise TypeError(words) from None
    if not least <= number < _WORD >> 1:
        raise ValueError(words)
    return number


def read_seed(seed: Integer | None, options: Options) -> int:
    """The seed of a call; one that is not given is drawn where it matters."""
    if seed is None:
        return draw_seed() if options.stochastic and options.dtype is not None else 0
    words = f"seed must be an int in 0..2**64 - 1 or None, got {shown(seed)}"
    try:
        number = index(seed)
    except TypeError:
        raise TypeError(words) from None
    if not 0 <= number < _WORD:
        raise ValueError(words)
    return number


def read_operator(op: Any) -> Operator:
    """ "sum" or "avg" for what torch calls it."""
    if op == dist.ReduceOp.SUM:
        return "sum"
    if op == dist.ReduceOp.AVG:
        return "avg"
    raise ValueError(f"op must be ReduceOp.SUM or ReduceOp.AVG, got {op}")


def check_context(ctx: object) -> None:
    if ctx is not None and not isinstance(ctx, Context):
        raise TypeError(f"ctx must be a piquant.Context or None, got {shown(ctx)}")


def read_tensor(tensor: Any, argument: str, options: Options, *, integers: bool = True) -> torch.Tensor:
    """The tensor without its gradient, checked."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{argument} must be a torch.Tensor, got {type(tensor).__name__}")
    if type(tensor).__name__ == "DTensor":
        raise TypeError(f"{argument} must not be a DTensor, of which other ranks hold the rest; give its to_local()")
    if tensor.layout is not torch.strided or tensor.is_nested:
        raise TypeError(f"{argument} must be strided, got layout {tensor.layout}")
    is_integer = not (tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.is_quantized)
    if tensor.dtype not in FLOAT_IDS and not (integers and is_integer):
        floats = ", ".join(str(dtype) for dtype in FLOAT_IDS)
        raise TypeError(f"{argument} must be of {floats}{' or integers' * integers}, got {tensor.dtype}")
    if options.dtype is not None and not is_integer:
        check_device(tensor.device, argument)
    return tensor.detach()


def check_operator(operator: Operator, tensors: Sequence[torch.Tensor]) -> None:
    """Refuses means of integers."""
    for tensor in tensors:
        if operator == "avg" and tensor.dtype not in FLOAT_IDS:
            raise ValueError(f"op must be ReduceOp.SUM for integers, got ReduceOp.AVG for a tensor of {tensor.dtype}")


def check_parts(whole: torch.Tensor, name: str, part: torch.Tensor, part_name: str, world_size: int) -> None:
    """Refuses tensors of which one does not hold as many elements as there are ranks times those of the other."""
    if whole.dtype != part.dtype:
        raise TypeError(
            f"output and input must be of one dtype, got {name} of {whole.dtype}, {part_name} of {part.dtype}"
        )
    if whole.device != part.device:
        raise ValueError(
            f"output and input must be on one device, got {name} on {whole.device}, {part_name} on {part.device}"
        )
    if whole.numel() != world_size * part.numel():
        raise ValueError(
            f"{name} must have {world_size} times as many elements as {part_name}, one part for each rank, got "
            f"{name} of {whole.numel()} and {part_name} of {part.numel()}"
        )
