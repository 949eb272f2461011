"""Threads and settings."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, ClassVar, Final

from piquant import _native
from piquant._dtypes import DTYPE_ID, code_id, float_id, shown

if TYPE_CHECKING:
    from piquant._dtypes import Integer, Number, ReduceOpLike, RoundModeLike


class Context(_native.Context):
    """Threads and settings for calls made with it.

    Contexts may be shared by any number of threads, and survive ``os.fork()``. Threads start with the first call that
    is large enough to use them. All functions use ``Context.get()`` unless given another. Copies, by ``copy``,
    ``pickle`` or as arguments of a spawned process, are contexts of their own with the same settings.

    Args:
        num_threads: threads per call, the calling one included, 1..1024. ``None`` chooses the number of CPUs that this
            process may use (affinity and cgroup quota), or what the environment variable ``PIQUANT_NUM_THREADS`` says.

    Attributes:
        num_threads: may be assigned; the next call sees it.
        isa: name of the instruction set in use; may be set to any of ``available_isas()``.
        serial_cutoff: calls that move fewer bytes (read plus written) run on the calling thread alone. Of threads that
            sleep, a call wakes one for each 8 times the cut-off, or all within 40 us of a call that left some asleep;
            and all where it is 0.
        stream_threshold: calls that move at least this many bytes write around the caches, and prefetch from further
            ahead. Until it is assigned, it follows the caches and the number of threads that take part in a call.

    Raises:
        ValueError: ``num_threads`` out of range, or an environment variable ``PIQUANT_*`` without a valid value.
    """

    __slots__ = ("__weakref__",)  # so that a misspelt setting is an error
    _default: ClassVar[Context | None] = None

    def __init__(self, num_threads: Integer | None = None) -> None:
        _native.Context.__init__(self, num_threads)  # super() of Python 3.11 crashes where memory runs out

    def __reduce__(self) -> tuple[object, ...]:
        settings = self.num_threads, self.isa, self.serial_cutoff, self.stream_threshold
        return _restored, (type(self), *settings), getattr(self, "__dict__", None) or None

    @staticmethod
    def get() -> Context:
        """The context that functions use when given none. Created on first use."""
        if Context._default is None:
            # Of several threads that get here at once, one makes the context of all.
            Context._default = _contexts.setdefault("default", Context())
        return Context._default

    def quantize_ptr(
        self,
        ptr_in: Integer,
        dtype_in: str,
        ptr_out: Integer,
        dtype_out: str,
        numel: Integer,
        scale: Number,
        zero_point: Integer,
        round_mode: RoundModeLike,
        seed: Integer = 0,
        offset: Integer = 0,
    ) -> None:
        """Quantizes ``numel`` elements from one address to another.

        The caller vouches for the addresses: ``ptr_in`` holds ``numel`` elements of float type ``dtype_in``,
        ``ptr_out`` has room for ``ceil(numel * bits / 8)`` bytes of ``dtype_out``. For the rest see
        ``piquant.quantize``.
        """
        source, target = float_id(dtype_in, "dtype_in"), code_id(dtype_out, "dtype_out")
        ptr_in, ptr_out, numel = _address(ptr_in, "ptr_in", numel), _address(ptr_out, "ptr_out", numel), index(numel)
        self._quantize(ptr_in, source, ptr_out, target, numel, scale, zero_point, round_mode, seed, offset)

    def dequantize_ptr(
        self,
        ptr_in: Integer,
        dtype_in: str,
        ptr_out: Integer,
        dtype_out: str,
        numel: Integer,
        scale: Number,
        zero_point: Integer,
        reduce_op: ReduceOpLike,
    ) -> None:
        """Dequantizes ``numel`` codes from one address to another.

        The caller vouches for the addresses, see ``quantize_ptr``. See ``piquant.dequantize`` for the rest.
        """
        source, target = code_id(dtype_in, "dtype_in"), float_id(dtype_out, "dtype_out")
        ptr_in, ptr_out, numel = _address(ptr_in, "ptr_in", numel), _address(ptr_out, "ptr_out", numel), index(numel)
        self._dequantize(ptr_in, source, ptr_out, target, numel, scale, zero_point, reduce_op)

    def compute_quant_params_ptr_float32(
        self, ptr: Integer, target_quant_dtype: str, numel: Integer
    ) -> tuple[float, int]:
        """Scale and zero point for ``numel`` float32 elements at ``ptr``. See ``piquant.compute_quant_params``."""
        return self._params_ptr(ptr, "float32", target_quant_dtype, numel)

    def compute_quant_params_ptr_bfloat16(
        self, ptr: Integer, target_quant_dtype: str, numel: Integer
    ) -> tuple[float, int]:
        """Scale and zero point for ``numel`` bfloat16 elements at ``ptr``. See ``piquant.compute_quant_params``."""
        return self._params_ptr(ptr, "bfloat16", target_quant_dtype, numel)

    def _params_ptr(self, ptr: Integer, source: str, target_quant_dtype: str, numel: Integer) -> tuple[float, int]:
        target = code_id(target_quant_dtype, "target_quant_dtype")
        ptr, numel = _address(ptr, "ptr", numel), index(numel)
        return self._compute_quant_params(ptr, DTYPE_ID[source], target, numel)


def _restored(kind: type[Context], num_threads: int, isa: str, serial_cutoff: int, stream_threshold: int) -> Context:
    """A copy of a context, perhaps of another process: one with its own threads and the same settings.

    Results do not depend on the instruction set, so one that this CPU lacks is no error: the best of its own is used.
    """
    context = kind.__new__(kind)
    Context.__init__(context, num_threads)
    if isa in available_isas():
        context.isa = isa
    context.serial_cutoff = serial_cutoff
    context.stream_threshold = stream_threshold
    return context


_contexts: Final[dict[str, Context]] = {}


def _address(value: Integer, argument: str, numel: Integer) -> int:
    """``value`` as the address of ``numel`` elements; 0 will do for none."""
    numel = _word(numel, "numel", 0)
    return _word(value, argument, 1 if numel > 0 else 0)


def _word(value: Integer, argument: str, lowest: int) -> int:
    words = f"{argument} must be an int in {lowest}..2**64 - 1, got {shown(value)}"
    try:
        number = index(value)
    except TypeError:
        raise TypeError(words) from None
    if not lowest <= number < 1 << 64:
        raise ValueError(words)
    return number


def set_num_threads(num_threads: Integer) -> None:
    """Sets the threads per call of the default context, the calling one included.

    Raises:
        ValueError: not in 1..1024.
    """
    Context.get().num_threads = num_threads


def get_num_threads() -> int:
    """Threads per call of the default context."""
    return Context.get().num_threads


def isa() -> str:
    """The instruction set that the default context uses."""
    return Context.get().isa


def available_isas() -> list[str]:
    """The instruction sets that this CPU runs, best first. ``PIQUANT_ISA`` lowers the default choice."""
    return _native.available_isas()
