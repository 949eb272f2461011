"""Plans for CUDA devices.

``run`` is what the native module calls in place of the CPU's kernels, with a call that it has checked and planned
(``piquant_plan_t`` of quant.h). Nothing here waits for the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from piquant._dtypes import BITS
from piquant.torch._triton import dynamic, tiles
from piquant.torch._triton.dequantize import dequantize
from piquant.torch._triton.launch import NONE
from piquant.torch._triton.quantize import quantize
from piquant.torch._triton.tiles import BYTES, Form

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORD: Final = (1 << 64) - 1


class Plan(NamedTuple):
    """The fields of ``piquant_plan_t``. Scales and their reciprocals are patterns of the compute type."""

    operation: int
    real: int
    code: int
    in_: int
    out: int
    n: int
    blocks: int
    scale: int
    inverse: int
    zero: int
    scales: int
    zeros: int
    scale_dtype: int
    zero_dtype: int
    stochastic: int
    add: int
    symmetric: int
    low: int
    high: int
    seed: int
    offset: int
    nan_scales: int
    dims: tuple[tuple[int, ...], ...]

    def form(self) -> Form:
        return Form(
            self.operation, self.real, self.code, self.blocks != 0, self.scale_dtype,
            self.zero_dtype if self.zeros else NONE, self.stochastic, self.add, self.symmetric, self.nan_scales,
            self.in_ & 15, self.out & 15, self.offset & 8191, self.dims,
        )  # fmt: skip

    def head(self) -> tuple[int, ...]:
        """The first arguments of all kernels, in the order of the native module."""
        arrays = self.in_, self.out, self.scales, self.zeros
        return *arrays, self.scale, self.inverse, self.zero, self.low, self.high, self.seed, self.offset

    def parts(self) -> Iterator[Plan]:
        """Calls of no more dimensions than kernels take."""
        if len(self.dims) <= tiles.OUTER + 1:
            yield self
            return
        size, in_stride, out_stride, block, params = self.dims[0]
        n = self.n // size
        for i in range(size):
            entry = i // block * params
            part = self._replace(
                in_=self.in_ + i * in_stride,
                out=self.out + i * out_stride,
                n=n,
                scales=self.scales + entry * BYTES[self.scale_dtype],
                zeros=self.zeros and self.zeros + entry * BYTES[self.zero_dtype],
                offset=(self.offset + i * n) & _WORD,
                dims=self.dims[1:],
            )
            yield from part.parts()


def run(device: int, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Queues what carries out a plan on the current stream of a device.

    Returns how the native module launches the same kernel for plans of the same form, without asking again; None where
    there is more to do.
    """
    plan = Plan(*given)
    if plan.operation >= tiles.COMPUTE_PARAMS:
        launch = tiles.finding_in_blocks(plan.form())
        if launch is None:
            _find_across(device, plan)
            if plan.operation == tiles.QUANTIZE_DYNAMIC:
                _convert(device, plan._replace(operation=tiles.QUANTIZE))
            return None
        return dynamic.quantize_dynamic.launch(device, launch, (*plan.head(), *launch.arguments))
    return _convert(device, plan)


def _convert(device: int, plan: Plan) -> tuple[Any, ...] | None:
    kernel = dequantize if plan.operation == tiles.DEQUANTIZE else quantize
    again = None
    for part in plan.parts():
        launch = tiles.conversion(part.form())
        again = kernel.launch(device, launch, (*part.head(), *launch.arguments))
    return again if len(plan.dims) <= tiles.OUTER + 1 else None


def _find_across(device: int, plan: Plan) -> None:
    """Finds parameters of blocks that many programs share."""
    extents = torch.zeros(
        (1 if plan.symmetric else 2, plan.blocks),
        dtype=torch.int64 if BITS[plan.real] == 64 else torch.int32,
        device="cpu" if device < 0 else torch.device("cuda", device),
    )
    uppers, lowers = extents.data_ptr(), extents[-1].data_ptr()
    for part in plan.parts():
        entry = (part.scales - plan.scales) // BYTES[plan.scale_dtype] * extents.element_size()
        launch = tiles.finding_across(part.form())
        dynamic.find_extents.launch(device, launch, (part.in_, uppers + entry, lowers + entry, *launch.arguments))
    launch = tiles.settling(plan.form(), plan.blocks)
    numbers = plan.zero, plan.low, plan.high, plan.blocks
    dynamic.settle_parameters.launch(device, launch, (uppers, lowers, plan.scales, plan.zeros, *numbers))
