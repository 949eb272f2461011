"""One rank of the benchmark of links: a process that carries out all-reduces as told, and says how long they took.

Orders and answers are lines of JSON. The first order says who it is; then come ``{"prepare": elements}`` and ``{"call":
method}``. An order reaches all ranks of this machine at once, so that they begin together however slow their links are.
Nothing else uses the network of a rank, so what its interfaces have sent is what a call has sent.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeAlias

import torch
import torch.distributed as dist

import piquant.distributed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

AllReduce: TypeAlias = "Callable[[torch.Tensor], object]"


def _exact(tensor: torch.Tensor) -> None:
    dist.all_reduce(tensor)


def _narrow(dtype: torch.dtype, tensor: torch.Tensor) -> None:
    """As torch's hooks for 16 bits do: the sum is one of narrow numbers."""
    narrow = tensor.to(dtype)
    dist.all_reduce(narrow)
    tensor.copy_(narrow)


def _torch_hook(tensor: torch.Tensor) -> None:
    """The algorithm of torch's hook for 8 bits with one scale, whose own form fails with Gloo.

    Everyone sends all of its codes to everyone.
    """
    ranks = dist.get_world_size()
    low, high = (float(extreme) for extreme in tensor.aminmax())
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255 or 1.0
    own = torch.tensor([scale, round(-low / scale)])
    parameters = list(torch.empty(ranks, 2))
    dist.all_gather(parameters, own)
    codes = torch.clamp(torch.round(tensor / own[0]) + own[1], 0, 255).to(torch.uint8)
    gathered = [torch.empty_like(codes) for _ in range(ranks)]
    dist.all_gather(gathered, codes)
    tensor.zero_()
    for (of_codes, zero_point), theirs in zip(parameters, gathered, strict=True):
        tensor += of_codes * (theirs.to(torch.float32) - zero_point)


def _ours(dtype: str, tensor: torch.Tensor) -> None:
    piquant.distributed.all_reduce(tensor, dtype=dtype, seed=1)


METHODS: Final[Mapping[str, AllReduce]] = {
    "float32": _exact,
    "float16": partial(_narrow, torch.float16),
    "bfloat16": partial(_narrow, torch.bfloat16),
    "torch hook": _torch_hook,
    "int8": partial(_ours, "int8"),
    "int4": partial(_ours, "int4"),
}


class Rank:
    """Data, and their exact sum, which results are compared with."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._mine = self._sum = self._scratch = torch.empty(0)

    def prepare(self, elements: int) -> None:
        """Puts the data where the next call finds them."""
        if elements != self._mine.numel():
            self._mine = torch.randn(elements, generator=torch.Generator().manual_seed(self._number))
            self._sum = self._mine.clone()
            dist.all_reduce(self._sum)
            self._scratch = torch.empty(elements)
        self._scratch.copy_(self._mine)

    def call(self, method: str) -> dict[str, float]:
        """One all-reduce: seconds, bytes sent, and the error of the sum, relative root mean square."""
        sent, begin = sent_bytes(), time.perf_counter()
        METHODS[method](self._scratch)
        seconds, sent = time.perf_counter() - begin, sent_bytes() - sent
        error = torch.linalg.vector_norm(self._scratch - self._sum) / torch.linalg.vector_norm(self._sum)
        return {"seconds": seconds, "sent": sent, "error": float(error)}


def sent_bytes(table: Path = Path("/proc/net/dev")) -> int:
    """What the interfaces of this network namespace have sent."""
    lines = table.read_text().splitlines()[2:]
    return sum(int(line.partition(":")[2].split()[8]) for line in lines)


def serve(orders: TextIO, answers: TextIO) -> None:
    """Joins the process group that the first order describes, and carries out the others."""

    def answer(value: Any) -> None:
        print(json.dumps(value), file=answers, flush=True)

    answer("begun")
    torch.set_num_threads(1)
    who = json.loads(orders.readline())
    dist.init_process_group(
        "gloo",
        init_method=f"file://{who['store']}",
        rank=who["rank"],
        world_size=who["ranks"],
        timeout=timedelta(seconds=who["timeout"]),
    )
    try:
        rank = Rank(who["rank"])
        known: dict[str, Callable[[Any], Any]] = {"prepare": rank.prepare, "call": rank.call}
        answer("joined")
        for line in orders:
            ((order, argument),) = json.loads(line).items()
            answer(known[order](argument))
    finally:
        dist.destroy_process_group()


def main() -> None:
    """Gloo prints to the standard output, which is therefore kept for answers alone."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
