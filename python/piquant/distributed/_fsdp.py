"""FSDP2 with quantized gradients and weights, by the interface that torch has for it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

import piquant.distributed as collectives
from piquant.distributed._arguments import read_options, read_seed

try:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.fsdp._fully_shard import _fsdp_api
    from torch.distributed.tensor import DTensor
except ImportError as error:
    raise ImportError(
        "ReduceScatter, AllGather and apply_fsdp need the classes by which FSDP2 lets its communication be replaced. "
        f"They are in a private module, which torch {torch.__version__} does not have: {error}"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from piquant._dtypes import Integer, RoundModeLike
    from piquant.distributed._work import Work


class _Memory:
    """Buffers of communication are torch's, as by default."""

    def allocate(self, size: Sequence[int | torch.SymInt], *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return torch.empty(size, dtype=dtype, device=device)


class ReduceScatter(_Memory, _fsdp_api.ReduceScatter):
    """Gradients of FSDP2, quantized once, on their way to the rank that keeps their sum.

    It is for ``FSDPModule.set_custom_reduce_scatter``, which sets it for one module and none of those inside;
    ``apply_fsdp`` does it for all. On a mesh of two dimensions (native HSDP), torch averages over replicas as before.
    Gradients of all parameters of a module travel together, those of norms and biases, too.

    Args:
        dtype: "int8", "int4" or "int2" of the codes; ``None`` leaves calls to torch.
        block_size: elements that share a scale.
        round_mode: "stochastic" rounds without bias, "nearest" with half of the largest error.
        seed: 0..2**64-1, of stochastic rounding. Each call draws other random words.
        segment_bytes: bytes of codes that a message should have; ``None`` goes by the round trip time.

    Raises:
        ImportError: this torch does not let FSDP2's communication be replaced.
        ValueError: another dtype name, mode or number.
        TypeError: an argument of another type.
    """

    def __init__(
        self,
        dtype: torch.dtype | str | None = "int8",
        block_size: Integer = 256,
        round_mode: RoundModeLike = "stochastic",
        seed: Integer = 0,
        segment_bytes: Integer | None = None,
    ) -> None:
        self._options = _checked(dtype, block_size, round_mode, segment_bytes, seed)

    def __call__(
        self,
        output_tensor: torch.Tensor,
        input_tensor: torch.Tensor,
        group: dist.ProcessGroup,
        op: Any,
        async_op: bool = False,
    ) -> dist.Work | None:
        return _waited(
            collectives.reduce_scatter_tensor(output_tensor, input_tensor, op, group, async_op, **self._options)
        )


class AllGather(_Memory, _fsdp_api.AllGather):
    """Weights of FSDP2, quantized on their way to all ranks, to nearest.

    It is for ``FSDPModule.set_custom_all_gather``, which sets it for one module and none of those inside;
    ``apply_fsdp`` does it for all. All ranks compute with the same rounded weights, in the forward and the backward
    pass; shards, which optimizers change, stay as they are. Where the parameters of a module have several dtypes, torch
    gathers bytes, and these are not quantized.

    Args:
        dtype: "int8", "int4" or "int2" of the codes; ``None`` leaves calls to torch.
        block_size: elements that share a scale.
        segment_bytes: bytes of codes that a message should have; ``None`` goes by the round trip time.

    Raises:
        ImportError: this torch does not let FSDP2's communication be replaced.
        ValueError: another dtype name or number.
        TypeError: an argument of another type.
    """

    def __init__(
        self,
        dtype: torch.dtype | str | None = "int8",
        block_size: Integer = 256,
        segment_bytes: Integer | None = None,
    ) -> None:
        self._options = _checked(dtype, block_size, "nearest", segment_bytes)

    def __call__(
        self,
        output_tensor: torch.Tensor,
        input_tensor: torch.Tensor,
        group: dist.ProcessGroup,
        async_op: bool = False,
    ) -> dist.Work | None:
        return _waited(
            collectives.all_gather_into_tensor(output_tensor, input_tensor, group, async_op, **self._options)
        )


def apply_fsdp(
    model: torch.nn.Module,
    gradients: torch.dtype | str | None = "int8",
    weights: torch.dtype | str | None = None,
    *,
    block_size: Integer = 256,
    round_mode: RoundModeLike = "stochastic",
    seed: Integer = 0,
    segment_bytes: Integer | None = None,
    replicas: dist.ProcessGroup | None = None,
) -> None:
    """Quantizes what every module sends that ``fully_shard`` was applied to.

    With ``replicas``, gradients of shards are averaged over a second group, too: hybrid sharding, of which FSDP knows
    nothing. ``fully_shard`` is then given the mesh of the shards, of one dimension::

        mesh = init_device_mesh("cpu", (2, 4), mesh_dim_names=("replicas", "shards"))
        fully_shard(model, mesh=mesh["shards"])
        apply_fsdp(model, replicas=mesh.get_group("replicas"))

    Args:
        model: with at least one such module. Replicas begin with the same parameters.
        gradients: "int8", "int4" or "int2" for gradients, see ``ReduceScatter``; ``None`` leaves them to torch.
        weights: the same for weights, see ``AllGather``.
        block_size: elements that share a scale.
        round_mode: of gradients, "stochastic" or "nearest".
        seed: 0..2**64-1, of stochastic rounding. Each call draws other random words.
        segment_bytes: bytes of codes that a message should have; ``None`` goes by the round trip time.
        replicas: the ranks that have the same shards as this one.

    Raises:
        ImportError: this torch does not let FSDP2's communication be replaced.
        ValueError: there is no such module; with ``replicas``, its mesh is not of one dimension; another dtype name,
            mode or number. torch refuses modules whose parameters are on several meshes.
        TypeError: an argument of another type.
    """
    options = _checked(gradients, block_size, round_mode, segment_bytes, seed)
    modules = [module for module in model.modules() if isinstance(module, FSDPModule)]
    if not modules:
        raise ValueError("model must have a module that fully_shard was applied to, got none")
    if replicas is not None:
        for name, parameter in model.named_parameters():
            if isinstance(parameter, DTensor) and parameter.device_mesh.ndim != 1:
                raise ValueError(
                    f"replicas must be None where FSDP averages over replicas itself: {name} is on a mesh of "
                    f"{parameter.device_mesh.ndim} dimensions"
                )
    scatter = ReduceScatter(**options)
    gather = AllGather(weights, block_size, segment_bytes)
    for module in modules:
        if gradients is not None:
            module.set_custom_reduce_scatter(scatter)
        if weights is not None:
            module.set_custom_all_gather(gather)
        if replicas is not None:
            module.set_all_reduce_hook(partial(_average, replicas, options))


def _checked(
    dtype: torch.dtype | str | None,
    block_size: Integer,
    round_mode: RoundModeLike,
    segment_bytes: Integer | None,
    seed: Integer = 0,
) -> dict[str, Any]:
    """Options of a collective by name."""
    read_seed(seed, read_options(dtype, block_size, round_mode, segment_bytes))
    return {
        "dtype": dtype,
        "block_size": block_size,
        "round_mode": round_mode,
        "seed": seed,
        "segment_bytes": segment_bytes,
    }


def _average(replicas: dist.ProcessGroup, options: dict[str, Any], gradients: torch.Tensor) -> None:
    collectives.all_reduce(gradients, dist.ReduceOp.AVG, replicas, **options)


class _Waited(dist.Work):
    """Work as FSDP takes it: it waits for nothing else."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    def wait(self, timeout: Any = None) -> bool:
        return self._work.wait(timeout)


def _waited(work: Work | None) -> dist.Work | None:
    return None if work is None else _Waited(work)
