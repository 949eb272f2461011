"""torch's side of piquant.torch: its dtypes, what is wrong with a tensor, and new tensors for results."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.autograd.graph import increment_version

from piquant import _native
from piquant._dtypes import CODES, DTYPE_ID, FLOATS, PACKED, DataType, refuse, refuse_float_zero_points, shown
from piquant._outputs import ADVISED_FROM, KEPT_FROM, allocated
from piquant._shapes import product

if TYPE_CHECKING:
    from collections.abc import Callable

# Bound here, as attributes of the module torch take longer. The CPU by its object takes less time than by its name.
_STRIDED: Final = torch.strided
_empty: Final = torch.empty
_Tensor: Final = torch.Tensor
_CPU: Final = torch.device("cpu")

# torch's own quantized dtypes. The two narrow ones count whole bytes where others count elements.
_QUANTIZED: Final = {"quint8": "uint8", "qint8": "int8", "qint32": "int32", "quint4x2": "uint4", "quint2x4": "uint2"}
_BIT_PACKED: Final = (torch.quint4x2, torch.quint2x4)


def _known_dtypes() -> dict[object, _native.DType]:
    known: dict[str, _native.DType] = {}
    for name in (*FLOATS, *(name for name in CODES if name not in PACKED)):
        known[name] = _native.DType(DTYPE_ID[name], DTYPE_ID[name], getattr(torch, name))
    for name in PACKED:
        known[name] = _native.DType(DTYPE_ID[name], DTYPE_ID["uint8"], torch.uint8)
    for name, codes in _QUANTIZED.items():
        known[name] = _native.DType(DTYPE_ID[codes], DTYPE_ID[codes], getattr(torch, name), True)
    spelled: dict[object, _native.DType] = dict(known.items())
    for name, dtype in known.items():
        spelled[f"torch.{name}"] = dtype
        if hasattr(torch, name):  # torch before 2.6 has no narrow dtypes
            spelled[getattr(torch, name)] = dtype
    return spelled


DTYPES: Final = _known_dtypes()
"""Every spelling of a dtype: itself, its name, and what ``str`` makes of it."""

_TORCH_DTYPES: Final = {name: known.storage for name, known in DTYPES.items() if name in (*FLOATS, *CODES)} | {
    name: getattr(torch, name) for name in PACKED if hasattr(torch, name)
}
_OF_TORCH: Final = {
    **{dtype: DataType(name) for name, dtype in _TORCH_DTYPES.items()},
    **{getattr(torch, name): DataType(codes) for name, codes in _QUANTIZED.items()},
}
# Types that pi-quant had, as it gave them.
_TO_TORCH: Final = _TORCH_DTYPES | {"uint8": torch.quint8, "uint4": torch.quint4x2, "uint2": torch.quint2x4}


def torch_to_piquant_dtype(dtype: torch.dtype) -> DataType:
    """The element type of a torch dtype: ``DataType.UINT4`` for ``torch.quint4x2`` and for ``torch.uint4``.

    Raises:
        ValueError: a dtype that is none of floats or codes.
        TypeError: not a torch dtype.
    """
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype must be a torch.dtype, got {shown(dtype)}")
    if dtype not in _OF_TORCH:
        raise ValueError(f"dtype must be one of {_FLOAT_WORDS}, {_CODE_WORDS}, got {dtype}")
    return _OF_TORCH[dtype]


def piquant_to_torch_dtype(dtype: DataType | str) -> torch.dtype:
    """The torch dtype of an element type, which the functions take as ``dtype``.

    As in pi-quant it is ``torch.quint8``, ``quint4x2`` or ``quint2x4`` for unsigned codes of 8, 4 and 2 bits; for
    others the dtype of the same name.

    Raises:
        ValueError: not the name of a type.
        TypeError: neither a ``DataType`` nor a str.
    """
    if not isinstance(dtype, str) or dtype not in _TO_TORCH:
        refuse(f"dtype must be a piquant.DataType or the name of one, got {shown(dtype)}", dtype)
    found: torch.dtype = _TO_TORCH[dtype]
    return found


_FLOAT_WORDS: Final = ", ".join(f"torch.{name}" for name in FLOATS)
_CODE_WORDS: Final = ", ".join(f"torch.{name}" for name in (*_QUANTIZED, *CODES))


def find_dtype(dtype: object, argument: str, floats: bool) -> _native.DType:
    """Refuses what is not in ``DTYPES``."""
    words = f"{_FLOAT_WORDS}, or the name of one" if floats else f"{_CODE_WORDS}, or a name such as 'int4'"
    refuse(f"{argument} must be one of {words}, got {shown(dtype)}", dtype)


def describe(x: object, argument: str, role: str, wanted: _native.DType | None) -> tuple[Any, ...]:
    """Looks at what is no plain ``torch.Tensor``: its address, dtype, shape, byte strides, and what to read instead.

    ``role`` says what it is for: "floats", "codes", an "output" of the dtype ``wanted``; or of blocks their "scales" or
    "zero points".
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{argument} must be a torch.Tensor{' or None' * (role == 'output')}, got {type(x).__name__}")
    try:
        # What subclasses make of attributes is not what their memory holds.
        with torch._C.DisableTorchFunctionSubclass():
            return _described(x, argument, role, wanted)
    except (RuntimeError, NotImplementedError, AssertionError) as error:  # of tensors of other packages, say
        raise TypeError(f"{argument} must have its elements in memory, got {kind_of(x)}: {error}") from None


def _described(x: torch.Tensor, argument: str, role: str, wanted: _native.DType | None) -> tuple[Any, ...]:
    if torch.nn.parameter.is_lazy(x) or torch._C._functorch.is_functorch_wrapped_tensor(x) or is_fake(x):
        raise TypeError(f"{argument} must have its elements in memory, got {kind_of(x)}")
    if not is_reached(x) or x.layout is not _STRIDED or x.is_nested:
        raise TypeError(f"{argument} must be strided and on the CPU or a CUDA device, got {kind_of(x)}")
    known = DTYPES.get(x.dtype)
    if role == "output":
        _check_output(x, argument, wanted)
    elif role == "zero points":
        _check_zero_points(x, argument)
    elif known is None or known.is_float != (role in ("floats", "scales")) or known.storage is not x.dtype:
        words = f"{_CODE_WORDS} (narrow codes packed in torch.uint8)" if role == "codes" else _FLOAT_WORDS
        raise TypeError(f"{argument} must be of one of {words}, got {x.dtype}")
    if x.dtype in _BIT_PACKED and not (x.is_contiguous() and x.storage_offset() == 0):
        # A view's address is not where its codes are.
        raise ValueError(f"{argument} of {x.dtype} must be whole and contiguous, got a view with strides {x.stride()}")
    address = x.data_ptr()
    if address == 0 and x.numel() > 0:
        raise TypeError(f"{argument} must have its elements in memory, got {kind_of(x)}")
    _check_storage(x, argument)
    size = x.element_size()
    negated = _copied(x.resolve_neg, x, argument) if x.is_neg() else None
    place = () if x.is_cpu else (x.get_device(),)
    return address, known, tuple(x.shape), tuple(stride * size for stride in x.stride()), negated, *place


def _check_storage(x: torch.Tensor, argument: str) -> None:
    """Refuses a tensor whose storage was resized beneath it."""
    if x.numel() == 0 or x.dtype in _BIT_PACKED:
        return
    last = x.storage_offset() + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    needed, held = (last + 1) * x.element_size(), x.untyped_storage().nbytes()
    if needed > held:
        raise ValueError(f"{argument} must lie within its storage, got {needed} bytes of one of {held} bytes")


def kind_of(x: torch.Tensor) -> str:
    """What a tensor without elements in this process's memory is."""
    if torch.nn.parameter.is_lazy(x):
        return f"an uninitialized {type(x).__name__}"
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        return "a tensor that torch.vmap or torch.func transforms"
    if x.is_nested:
        return "a nested tensor"
    if is_fake(x):
        return "a FakeTensor, which has a shape and no elements"
    if not is_reached(x) or x.layout is not _STRIDED:
        return f"device {x.device}, layout {x.layout}"
    return f"a {type(x).__name__} that wraps other tensors or stands for them"


def is_reached(x: torch.Tensor) -> bool:
    """Whether a tensor is where kernels are."""
    return x.is_cpu or x.is_cuda


def is_fake(x: torch.Tensor) -> bool:
    return type(x).__name__ == "FakeTensor"  # importing the class takes long


def _check_output(out: torch.Tensor, argument: str, wanted: _native.DType | None) -> None:
    assert wanted is not None  # of an output
    if out.dtype is not wanted.storage:
        raise TypeError(f"{argument} must be of {wanted.storage}, got {out.dtype}")
    if out.is_neg():
        raise ValueError(f"{argument} must not be a view of negated values, got one")
    if out.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"{argument} must not require a gradient while gradients are recorded, got one that does")


def _check_zero_points(x: torch.Tensor, argument: str) -> None:
    if x.dtype.is_floating_point:
        refuse_float_zero_points(argument, str(x.dtype))
    known = DTYPES.get(x.dtype)
    if known is None or known.carries_params or known.storage is not x.dtype or known.is_packed:
        raise TypeError(f"{argument} must hold integers of 8 bits or more, got {x.dtype}")


def check_params(x: torch.Tensor, argument: str, scale: float, zero_point: int) -> None:
    """Refuses a tensor that carries other parameters than the arguments."""
    try:
        scheme = x.qscheme()
    except RuntimeError:  # made by torch.empty: it carries none, and says so when asked
        return
    if scheme != torch.per_tensor_affine:
        raise ValueError(
            f"{argument} must carry one scale and zero point (torch.per_tensor_affine), got a tensor of {scheme}; "
            f"its own dequantize() uses them"
        )
    carried = x.q_scale(), x.q_zero_point()
    if carried != (float(scale), int(zero_point)):
        raise ValueError(
            f"{argument} must carry the scale and zero_point that are given, scale={scale}, zero_point={zero_point}; "
            f"got one that carries scale={carried[0]}, zero_point={carried[1]}"
        )


def _beneath(x: torch.Tensor) -> torch.Tensor:
    """Of subclasses the tensor beneath, as their functions may be others."""
    if type(x) is _Tensor:
        return x
    with torch._C.DisableTorchFunctionSubclass():
        return x.detach()


def contiguous(x: torch.Tensor, argument: str) -> torch.Tensor:
    """A row-major copy."""
    beneath = _beneath(x)
    return _copied(lambda: beneath.clone(memory_format=torch.contiguous_format), beneath, argument)


def _copied(copy: Callable[[], torch.Tensor], x: torch.Tensor, argument: str) -> torch.Tensor:
    return _allocated(copy, lambda: f"{argument} of shape {tuple(x.shape)} has no room in memory as a copy")


def _allocated(make: Callable[[], torch.Tensor], words: Callable[[], str]) -> torch.Tensor:
    """``make()``, with a MemoryError for what torch's allocator raises."""

    def attempt() -> torch.Tensor:
        try:
            return make()
        except NotImplementedError:  # of a mode of torch
            raise
        except RuntimeError as error:
            raise MemoryError(words()) from error

    return allocated(attempt)


def make(
    like: torch.Tensor, dtype: _native.DType, shape: tuple[int, ...] | None, scale: float, zero_point: int
) -> torch.Tensor:
    """A tensor for a result, not filled; ``shape`` is ``None`` for that of ``like``, in its memory format."""
    like = _beneath(like)
    try:
        if dtype.carries_params:
            return _quantized(like, dtype.storage, scale, zero_point)
        if not like.is_cpu:
            if shape is None and not like.is_quantized:
                return torch.empty_like(like, dtype=dtype.storage)
            size = tuple(like.shape) if shape is None else shape
            return torch.empty(size, dtype=dtype.storage, device=like.device)
        if shape is None:
            return _new(tuple(like.shape), None if like.is_contiguous() else _dense_strides(like), dtype.storage)
        return _new(shape, None, dtype.storage)
    except (AssertionError, NotImplementedError) as error:
        raise TypeError(f"the result cannot be made within {_mode()}: {str(error).splitlines()[0]}") from None


def _small(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return _empty(shape, dtype=dtype, device=_CPU)


def _mode() -> str:
    """The dispatch mode of torch that refuses real tensors."""
    mode = torch.utils._python_dispatch._get_current_dispatch_mode()
    return type(mode).__name__ if mode is not None else "this mode of torch"


def _dense_strides(like: torch.Tensor) -> tuple[int, ...]:
    """Strides of ``torch.empty_like(like)``."""
    standing_for_it = torch.empty_strided(tuple(like.shape), like.stride(), device="meta")
    return torch.empty_like(standing_for_it).stride()


def _new(size: tuple[int, ...], strides: tuple[int, ...] | None, dtype: torch.dtype) -> torch.Tensor:
    nbytes = product(size) * dtype.itemsize
    if nbytes >= KEPT_FROM:
        memory = _native.output_memory(nbytes)
        if memory is not None:
            flat = torch.frombuffer(memory, dtype=dtype)
            # In place and not by view, whose result would be a view of another tensor.
            return flat.resize_(size) if strides is None else flat.set_(flat.untyped_storage(), 0, size, strides)

    def fresh() -> torch.Tensor:
        if strides is None:
            return torch.empty(size, dtype=dtype, device=_CPU)
        return torch.empty_strided(size, strides, dtype=dtype, device=_CPU)

    return _advised(_allocated(fresh, lambda: _no_room(size, dtype)), nbytes)


def _no_room(size: tuple[int, ...], dtype: torch.dtype) -> str:
    return f"the result of shape {size} and {dtype} has no room in memory; give out"


def _quantized(like: torch.Tensor, dtype: torch.dtype, scale: float, zero_point: int) -> torch.Tensor:
    """A tensor that carries its parameters. As with torch.quantize_per_tensor it is row-major, or channels last."""
    size = tuple(like.shape)
    options: dict[str, Any] = {
        "scale": float(scale),  # torch wants the very types; anything that is a number was right so far
        "zero_point": int(zero_point),
        "dtype": dtype,
        "device": like.device,
        "memory_format": torch.contiguous_format if like.is_contiguous() else _quantized_format(like, dtype),
    }
    try:
        codes = torch._empty_affine_quantized(size, **options)
    except RuntimeError:
        codes = _allocated(lambda: torch._empty_affine_quantized(size, **options), lambda: _no_room(size, dtype))
    return _advised(codes, codes.numel()) if like.is_cpu else codes


def _quantized_format(like: torch.Tensor, dtype: torch.dtype) -> torch.memory_format:
    for dim, channels_last in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if like.dim() == dim and dtype not in _BIT_PACKED and like.is_contiguous(memory_format=channels_last):
            return channels_last
    return torch.contiguous_format


def _advised(fresh: torch.Tensor, nbytes: int) -> torch.Tensor:
    if nbytes >= ADVISED_FROM and type(fresh) is _Tensor:  # a mode of torch makes others
        _native.prepare_output(fresh.data_ptr(), fresh.untyped_storage().nbytes())
    return fresh


def run_on_device(device: int, plan: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Carries out a plan of the native module on a CUDA device."""
    global _run  # noqa: PLW0603  once, at the first CUDA tensor: Triton takes long to import
    if _run is None:
        try:
            from piquant.torch import _triton  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if error.name != "triton":
                raise
            raise ModuleNotFoundError(
                "CUDA tensors need Triton, which comes with torch for CUDA: pip install triton", name="triton"
            ) from error
        _run = _triton.run
    return _run(device, plan)


_run: Callable[[int, tuple[Any, ...]], tuple[Any, ...] | None] | None = None


def draw_seed() -> int:
    """A seed from torch's default generator, so that ``torch.manual_seed`` reproduces it."""
    drawn = _allocated(lambda: torch.empty((), dtype=torch.int64, device=_CPU), lambda: "a seed has no room in memory")
    return int(drawn.random_().item())


def _version_counter() -> Callable[[tuple[torch.Tensor, ...]], None]:
    """What tells autograd about a write: torch's own function without Python in between, where it takes tuples."""
    counter: Any = getattr(torch._C, "_increment_version", increment_version)
    tried = torch.empty(0, device=_CPU)
    before = tried._version
    with contextlib.suppress(TypeError, RuntimeError):
        counter((tried,))
    if tried._version == before + 1:
        return counter  # type: ignore[no-any-return]
    return lambda written: increment_version(written[0])


def _uses_torch_threads() -> bool:
    """Whether calls may run on torch's threads.

    Not in forked children: a team that torch had in the parent does not exist there, and torch waits for it for ever.
    Children of which the library itself sees the fork, it keeps off torch's threads by itself. Of one that began
    before the library was loaded, nobody knows whether torch had a team: then it is the environment's to say.
    """
    given = os.environ.get("PIQUANT_TORCH_THREADS")
    if given not in (None, "", "0", "1"):
        raise ValueError(f"PIQUANT_TORCH_THREADS must be 0 or 1, got {given}")
    return given == "1" or (given != "0" and not _is_forked())


def _is_forked() -> bool:
    """Whether the process began by ``fork()`` and has run no program of its own since, as far as the system tells."""
    forked_without_exec = 0x40  # PF_FORKNOEXEC in Linux's sched.h
    try:
        after_name = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        flags = int(after_name[6])
    except (OSError, IndexError, ValueError):
        flags = 0
    return bool(flags & forked_without_exec) or type(multiprocessing.current_process()).__name__ == "ForkProcess"


if _uses_torch_threads():
    _library = Path(torch.__file__).with_name("lib") / f"libtorch_cpu{'.dylib' if sys.platform == 'darwin' else '.so'}"
    _native.find_torch_threads(str(_library))

_native.use_tensors(torch.Tensor, torch.UntypedStorage, torch.is_grad_enabled)


def make_face(
    *, runs_all: bool = False, run: Callable[[int, tuple[Any, ...]], tuple[Any, ...] | None] = run_on_device
) -> _native.Face:
    """How the native module looks at tensors and makes them, and what carries out calls on those of devices.

    ``runs_all``: that carries out all calls, as tests of its kernels want it.
    """
    return _native.Face(
        "torch",
        dtypes=DTYPES,
        find_dtype=find_dtype,
        describe=describe,
        contiguous=contiguous,
        make=make,
        make_alike=torch.empty_like,
        make_small=_small,
        make_quantized=functools.partial(torch._empty_affine_quantized, device=_CPU),
        small=ADVISED_FROM,
        draw_seed=draw_seed,
        check_params=check_params,
        written=_version_counter(),
        run=run,
        runs_all=runs_all,
    )


FACE: Final = make_face()
