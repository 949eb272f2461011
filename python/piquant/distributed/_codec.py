"""Messages from floats, and back. What a message holds is in ``_plan``.

A device has a codec of its own: it owns memory that the group can send, and writes and reads messages there.
"""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, Final, Protocol

import torch

from piquant import _native
from piquant._dtypes import DTYPE_ID
from piquant.distributed._plan import BITS, HEADER_BYTES, layout_of_message
from piquant.torch import _tensors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from piquant._context import Context
    from piquant.distributed._plan import Options

Header = tuple[int, int]
"""Digest of the plan, number of the call."""

FLOAT_IDS: Final = {getattr(torch, name): DTYPE_ID[name] for name in ("float16", "bfloat16", "float32", "float64")}


# Of each type, integers of its width, and among these the negative NaN without payload, which messages stand for.
_NANS: Final = {
    torch.float16: (torch.int16, -(1 << 9)),
    torch.bfloat16: (torch.int16, -(1 << 6)),
    torch.float32: (torch.int32, -(1 << 22)),
    torch.float64: (torch.int64, -(1 << 51)),
}


def unify_nans(x: torch.Tensor) -> None:
    """Makes NaNs those of messages. What torch's own quotients and conversions make of them differs by processor."""
    integers, nan = _NANS[x.dtype]
    x.view(integers).masked_fill_(x.isnan(), nan)


class Codec(Protocol):
    """Of one device and ``Options``. Tensors are flat and contiguous, messages of uint8."""

    def empty(self, n_bytes: int) -> torch.Tensor:
        """Memory for messages, which the group can send and receive."""

    def encode(self, x: torch.Tensor, message: torch.Tensor, header: Header, seed: int, offset: int) -> None:
        """Writes the message of ``x``. Random words are those of ``seed`` from index ``offset`` on."""

    def decode(self, message: torch.Tensor, out: torch.Tensor, add: bool) -> None:
        """Writes what a message of ``out.numel()`` elements stands for to ``out``, or adds it."""

    def headers(self, messages: Sequence[torch.Tensor]) -> list[Header]:
        """The heads of messages, read together: that may wait for the device."""


class CpuCodec:
    """Messages in the memory of the process, by the native module.

    Args:
        options: of the plan.
        ctx: context; ``None`` for torch's threads, where torch lends them.
    """

    def __init__(self, options: Options, ctx: Context | None) -> None:
        dtype = options.dtype or "int8"
        self._code_id = DTYPE_ID[dtype]
        self._bits = BITS[dtype]
        self._block_size = options.block_size
        self._stochastic = options.stochastic
        self._ctx = ctx

    def empty(self, n_bytes: int) -> torch.Tensor:
        return torch.empty(n_bytes, dtype=torch.uint8)

    def encode(self, x: torch.Tensor, message: torch.Tensor, header: Header, seed: int, offset: int) -> None:
        address, n = message.data_ptr(), x.numel()
        layout = layout_of_message(n, self._block_size, self._bits)
        _words_at(address)[:] = list(header)
        ctypes.memset(address + layout.scales_end, 0, layout.codes - layout.scales_end)
        _native.encode_blocks(
            self._ctx, x.data_ptr(), FLOAT_IDS[x.dtype], address + HEADER_BYTES, address + layout.codes, self._code_id,
            n, self._block_size, self._stochastic, seed, offset,
        )  # fmt: skip

    def decode(self, message: torch.Tensor, out: torch.Tensor, add: bool) -> None:
        address, n = message.data_ptr(), out.numel()
        codes = address + layout_of_message(n, self._block_size, self._bits).codes
        _native.decode_blocks(
            self._ctx, address + HEADER_BYTES, codes, self._code_id,
            out.data_ptr(), FLOAT_IDS[out.dtype], n, self._block_size, add,
        )  # fmt: skip

    def headers(self, messages: Sequence[torch.Tensor]) -> list[Header]:
        words = [_words_at(message.data_ptr()) for message in messages]
        return [(digest, call) for digest, call in words]


def _words_at(address: int) -> ctypes.Array[ctypes.c_uint64]:
    """The two words of a header: little-endian, as are all machines that piquant is for."""
    return (ctypes.c_uint64 * 2).from_address(address)


class CudaCodec:
    """Messages of tensors on a CUDA device, by the kernels of ``piquant.torch`` and with the bytes of ``CpuCodec``.

    They are made on the device, and lie there too if the group can send that, as NCCL can; else in pinned memory.

    Args:
        options: of the plan.
        device: of the tensors.
        by_host: whether messages lie in the memory of the process.
    """

    def __init__(self, options: Options, device: torch.device, by_host: bool) -> None:
        dtype = options.dtype or "int8"
        self._code_id = DTYPE_ID[dtype]
        self._bits = BITS[dtype]
        self._block_size = options.block_size
        self._stochastic = options.stochastic
        self._device = device
        self._by_host = by_host

    def empty(self, n_bytes: int) -> torch.Tensor:
        if self._by_host:
            return torch.empty(n_bytes, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        return torch.empty(n_bytes, dtype=torch.uint8, device=self._device)

    def encode(self, x: torch.Tensor, message: torch.Tensor, header: Header, seed: int, offset: int) -> None:
        n = x.numel()
        # In memory of its own, since a message may begin at any byte, and kernels want floats where floats may be.
        made = torch.zeros(message.numel(), dtype=torch.uint8, device=self._device)
        scales, codes = self._places(made, n)
        _native.encode_blocks(
            None, x.data_ptr(), FLOAT_IDS[x.dtype], scales, codes, self._code_id,
            n, self._block_size, self._stochastic, seed, offset, _tensors.FACE, x.get_device(),
        )  # fmt: skip
        made[:HEADER_BYTES].copy_(torch.frombuffer(bytearray(struct.pack("<QQ", *header)), dtype=torch.uint8))
        message.copy_(made)  # waits for the device, if it goes to the memory of the process

    def decode(self, message: torch.Tensor, out: torch.Tensor, add: bool) -> None:
        n = out.numel()
        moved = message.to(self._device, copy=True)
        scales, codes = self._places(moved, n)
        _native.decode_blocks(
            None, scales, codes, self._code_id,
            out.data_ptr(), FLOAT_IDS[out.dtype], n, self._block_size, add, _tensors.FACE, out.get_device(),
        )  # fmt: skip

    def headers(self, messages: Sequence[torch.Tensor]) -> list[Header]:
        heads = torch.stack([message[:HEADER_BYTES] for message in messages]).cpu()
        words = struct.unpack(f"<{2 * len(messages)}Q", bytes(heads.view(-1).tolist()))
        return list(zip(words[::2], words[1::2], strict=True))

    def _places(self, message: torch.Tensor, n: int) -> tuple[int, int]:
        """Addresses of scales and codes of a message of n elements."""
        address = message.data_ptr()
        return address + HEADER_BYTES, address + layout_of_message(n, self._block_size, self._bits).codes


_DEVICES: Final = ("cpu", "cuda")
"""Types of devices that have a codec."""


def codec_for(device: torch.device, sendable: torch.device, options: Options, ctx: Context | None) -> Codec:
    """The codec of tensors on a device that ``check_device`` took, for a group that sends what is on ``sendable``."""
    if device.type == "cuda":
        return CudaCodec(options, device, sendable.type == "cpu")
    if sendable.type != "cpu":
        raise ValueError(
            f"tensors must be on {sendable.type} devices, which the backend of the group sends, got {device}"
        )
    return CpuCodec(options, ctx)


def check_device(device: torch.device, argument: str) -> None:
    """Refuses a device without a codec.

    Raises:
        NotImplementedError: it has none.
    """
    if device.type not in _DEVICES:
        raise NotImplementedError(
            f"{argument} must be on one of the devices {', '.join(_DEVICES)} to be quantized, got device {device}; "
            "dtype=None leaves it to torch"
        )
