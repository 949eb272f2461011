"""Random calls, made on the CPU, and on a device or by what stands in for one. Results must have the same bits."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

import piquant
import piquant.torch
from piquant._shapes import grid_shape

FLOATS = ("float32", "bfloat16", "float16", "float64")
CODES = tuple(t.value for t in piquant.DataType if t.is_quantized)
SPECIAL = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-40, -1e-40, 0.5, 1.5, 2.5, -0.5, 1e30, -1e30)
OFFSETS = (0, 0, 3 * 8192, 5 * 65536 - 7, (1 << 64) - 50)
PLAIN = {"int2": "int8", "int4": "int8", "uint2": "uint8", "uint4": "uint8"}


@dataclass
class Side:
    """Where calls are carried out: what brings tensors there, and what calls are made within."""

    move: Callable[[torch.Tensor], torch.Tensor]
    within: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext


CPU = Side(lambda x: x)


def bits(x: torch.Tensor) -> torch.Tensor:
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return x.cpu().contiguous().view(kinds[x.element_size()])


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b))
    if isinstance(a, piquant.torch.QuantizedTensor):
        return all(same(getattr(a, name), getattr(b, name)) for name in ("data", "scale", "zero_point"))
    return type(a) is type(b) and bool(a == b)


class Case:
    """A call of each function, on data of a random shape, with blocks or without."""

    def __init__(self, seed: int, most: int = 20_000) -> None:
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        choose = self.random.choice
        self.shape = self._shape(most)
        self.real = choose(FLOATS[:3]) if self.random.random() < 0.8 else FLOATS[3]
        self.code = choose(CODES if self.random.random() < 0.4 else CODES[:6])
        bits_ = piquant.DataType(self.code).bit_size
        self.low = -(1 << bits_ - 1) if self.code.startswith("i") else 0
        self.high = self.low + (1 << bits_) - 1
        self.is_packed = bits_ < 8
        self.block_size = None
        if self.random.random() < 0.75:
            sizes = (choose((-1, 1, 2, 3, 16, 32, 48, 128)) for _ in range(self.random.randint(1, len(self.shape))))
            self.block_size = tuple(sizes)
        self.limits: dict[str, int] = {}
        if self.random.random() < 0.3:
            low = self.random.randint(self.low, self.high - 1)
            self.limits = {"quant_min": low, "quant_max": self.random.randint(low + 1, self.high)}
        self.rounding = {
            "round_mode": choose(("nearest", "stochastic")),
            "seed": self.random.randrange(1 << 64),
            "offset": choose((*OFFSETS, self.random.randrange(1 << 20))),
        }
        self.scale_dtype = choose(FLOATS)
        self.symmetric = self.random.random() < 0.5
        self.scale, self.zero_point = self._params()

    def __str__(self) -> str:
        return str({key: value for key, value in vars(self).items() if key not in ("random", "generator", "scale")})

    def _shape(self, most: int) -> tuple[int, ...]:
        if self.random.random() < 0.3:
            return self.random.choice((1, 2, 3)), self.random.choice((100, 128, 129, 2048, 4096, 5000, 9000, 12288))
        shape = [self.random.choice((1, 2, 3, 5, 7, 16, 33, 64)) for _ in range(self.random.randint(1, 5))]
        while math.prod(shape) > most:
            shape = [max(n // 2, 1) for n in shape]
        return tuple(shape)

    def _params(self) -> tuple[Any, Any]:
        if self.block_size is None:
            return 10 ** self.random.uniform(-3, 2), self.random.randint(self.low, self.high)
        grid = grid_shape(self.shape, self.block_size)
        scale = (torch.rand(grid, generator=self.generator, dtype=torch.float64) * 3 + 0.01).to(
            getattr(torch, self.scale_dtype)
        )
        if self.random.random() < 0.4:
            return scale, 0
        ends = max(self.low, -(1 << 62)), min(self.high, 1 << 62)
        zeros = torch.tensor([self.random.randint(*ends) for _ in range(math.prod(grid))], dtype=torch.int64)
        return scale, zeros.reshape(grid).to(getattr(torch, PLAIN.get(self.code, self.code)))

    def data(self, finite: bool = False) -> torch.Tensor:
        """Some are ties; others, unless ``finite``, are special."""
        x = torch.randn(self.shape, generator=self.generator, dtype=torch.float64) * 10 ** self.random.uniform(-2, 2)
        if self.random.random() < 0.3:
            x = (x * 2).round() / 2
        if finite and self.random.random() < 0.1:
            x.zero_()
        if not finite:
            flat = x.view(-1)
            for value in SPECIAL:
                flat[self.random.randrange(flat.numel())] = value
        return x.to(getattr(torch, self.real))

    def laid_out(self, x: torch.Tensor, kind: int) -> torch.Tensor:
        """The tensor with other strides."""
        if kind == 0 and x.dim() >= 2:
            return x.transpose(-1, -2).contiguous().transpose(-1, -2)
        if kind == 1:
            wide = x.new_empty((*x.shape[:-1], x.shape[-1] + 3))
            wide[..., 1 : 1 + x.shape[-1]] = x
            return wide[..., 1 : 1 + x.shape[-1]]
        if kind == 2:
            wide = x.new_empty((*x.shape[:-1], x.shape[-1] * 2))
            wide[..., ::2] = x
            return wide[..., ::2]
        return x

    def calls(self) -> list[tuple[str, Callable[[Side], Any]]]:
        """Each gives its result, or the words of its error."""
        x, finite, before = self.data(), self.data(finite=True), self.data()
        layout = self.random.randrange(8)
        codes = piquant.torch.quantize(
            x, scale=self.scale, zero_point=self.zero_point, dtype=self.code, block_size=self.block_size
        )
        packed = {"source_dtype": self.code, "shape": self.shape} if self.is_packed else {}

        def params(side: Side) -> dict[str, Any]:
            given = {"scale": self.scale, "zero_point": self.zero_point}
            moved = {name: side.move(p) if isinstance(p, torch.Tensor) else p for name, p in given.items()}
            return moved | {"block_size": self.block_size}

        def placed(side: Side, tensor: torch.Tensor) -> torch.Tensor:
            return self.laid_out(side.move(tensor.clone()), layout if side is not CPU else 3)

        def quantize(side: Side) -> Any:
            given = params(side) | self.rounding | self.limits
            return piquant.torch.quantize(placed(side, x), dtype=self.code, **given)

        def dequantize(reduce_op: str) -> Callable[[Side], Any]:
            def call(side: Side) -> Any:
                out = placed(side, before)
                given = params(side) | packed
                return piquant.torch.dequantize(
                    side.move(codes), dtype=self.real, reduce_op=reduce_op, out=out, **given
                )

            return call

        def quantize_dequantize(side: Side) -> Any:
            given = params(side) | self.rounding | self.limits
            return piquant.torch.quantize_dequantize(placed(side, x), dtype=self.code, **given)

        def compute_quant_params(side: Side) -> Any:
            scale_dtype = {} if self.block_size is None else {"scale_dtype": self.scale_dtype}
            given = {"block_size": self.block_size, "symmetric": self.symmetric} | scale_dtype | self.limits
            return piquant.torch.compute_quant_params(placed(side, finite), dtype=self.code, **given)

        def quantize_dynamic(side: Side) -> Any:
            given = {"block_size": self.block_size, "symmetric": self.symmetric, "scale_dtype": self.scale_dtype}
            made = piquant.torch.quantize_dynamic(
                placed(side, finite), dtype=self.code, **given, **self.rounding, **self.limits
            )
            return made, made.dequantize()

        return [
            ("quantize", quantize),
            ("dequantize", dequantize("set")),
            ("dequantize, add", dequantize("add")),
            ("quantize_dequantize", quantize_dequantize),
            ("compute_quant_params", compute_quant_params),
            ("quantize_dynamic", quantize_dynamic),
        ]


def outcome(side: Side, call: Callable[[Side], Any]) -> Any:
    with side.within():
        try:
            return call(side)
        except ValueError as error:
            return str(error)


def differences(case: Case, side: Side) -> list[str]:
    """What is not as on the CPU. Where that finds no scale large enough, a device stores an infinite one."""
    found = []
    for name, call in case.calls():
        expected, got = outcome(CPU, call), outcome(side, call)
        if isinstance(expected, str) and "largest scale" in expected and case.block_size is not None:
            continue
        pairs = (
            zip(expected, got, strict=True)
            if isinstance(expected, tuple) and isinstance(got, tuple)
            else ((expected, got),)
        )
        if isinstance(expected, str) and "largest scale" in expected:
            continue
        if not all(same(a, b) for a, b in pairs):
            found.append(f"{name}: {case}")
    return found
