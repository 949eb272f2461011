"""What ranks do in test_diloco.py. Training is a walk: what a parameter moves by depends on rank and step alone."""

from __future__ import annotations

import io
import os
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from piquant.distributed import DiLoCo, _exchange

if TYPE_CHECKING:
    from pool import Rank

EVERY = 3
MOVE = 0.01
SHAPES = {"matrix": (37, 41), "scalar": (), "bias": (5,), "turned": (64, 65), "empty": (0, 3)}


class Walk:
    """Parameters, and moves that stand for training. One of them is transposed in memory."""

    def __init__(self, rank: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.rank, self.steps = rank, 0
        made = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}
        made["turned"] = made["turned"].T.contiguous().T
        self.params = {name: torch.nn.Parameter(values) for name, values in made.items()}

    def outer(self, group: dist.ProcessGroup | None, **options: Any) -> DiLoCo:
        optimizer = torch.optim.SGD(self.params.values(), lr=0.7, momentum=0.9, nesterov=True)
        return DiLoCo(self.params.items(), optimizer, every=EVERY, group=group, **options)

    @torch.no_grad()
    def step(self) -> None:
        for param, move in zip(self.params.values(), moves(self.rank, self.steps), strict=True):
            param.add_(move)
        self.steps += 1

    def walk(self, outer: DiLoCo, steps: int) -> list[bool]:
        """Steps, and what the outer optimizer said of each."""
        said = []
        for _ in range(steps):
            self.step()
            said.append(outer.step())
        return said

    def values(self) -> dict[str, torch.Tensor]:
        return {name: param.detach().clone() for name, param in self.params.items()}


def moves(rank: int, step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1 + 1000 * rank + step)
    return [MOVE * torch.randn(shape, generator=generator) for shape in SHAPES.values()]


def walk(me: Rank, seed: int, dtype: torch.dtype, steps: int, options: dict[str, Any]) -> Any:
    """What ``outer.step`` said, parameters and debts in the end."""
    mine = Walk(me.rank, seed if me.rank == 0 else seed + 1, dtype)  # rank 0's are taken
    outer = mine.outer(me.group, **options)
    for param in mine.params.values():
        param.grad = torch.ones_like(param)
    said = mine.walk(outer, steps)
    assert all(bool((param.grad == 1).all()) for param in mine.params.values())  # the inner optimizer's
    state = outer.state_dict()
    outer.close()
    return said, mine.values(), state["debts"], outer.rounds


def plain_walk(me: Rank, steps: int) -> Any:
    """Parameters and debts of a walk whose outer optimizer takes averages as they are."""
    mine = Walk(me.rank)
    optimizer = torch.optim.SGD(mine.params.values(), lr=1.0)
    outer = DiLoCo(mine.params.items(), optimizer, every=EVERY, group=me.group)
    mine.walk(outer, steps)
    outer.close()
    return mine.values(), outer.state_dict()["debts"]


def closed(me: Rank) -> str:
    outer = Walk(me.rank).outer(me.group)
    outer.close()
    return raised(outer.synchronize)


def interrupted(me: Rank, steps: int, stop: int, options: dict[str, Any]) -> Any:
    """Parameters of a walk in one go, and of one that goes on in other objects, from a file."""
    whole = Walk(me.rank)
    outer = whole.outer(me.group, **options)
    whole.walk(outer, steps)
    outer.close()

    first = Walk(me.rank)
    outer = first.outer(me.group, **options)
    first.walk(outer, stop)
    file = io.BytesIO()
    torch.save({"outer": outer.state_dict(), "model": first.values()}, file)
    outer.close()

    second = Walk(me.rank, seed=5)
    outer = second.outer(me.group, **options)
    checkpoint = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    with torch.no_grad():
        for name, param in second.params.items():
            param.copy_(checkpoint["model"][name])
    outer.load_state_dict(checkpoint["outer"])
    second.steps = stop
    second.walk(outer, steps - stop)
    outer.close()
    return whole.values(), second.values()


def kept(mine: Walk, outer: DiLoCo) -> dict[str, Any]:
    """All that an outer step would change, copied."""
    state = outer.state_dict()
    momentum = [m["momentum_buffer"].clone() for m in state["outer_optimizer"]["state"].values()]
    tensors = {"momentum": momentum, **{key: [t.clone() for t in state[key].values()] for key in ("anchors", "debts")}}
    return {"params": [*mine.values().values()], **tensors, "rounds": state["rounds"]}


def raised(call: Any) -> str:
    """What a call raises: type and words."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def diverged(me: Rank) -> Any:
    """A rank whose parameters are not finite: what is raised, what was before and after, and after a reset."""
    mine = Walk(me.rank)
    outer = mine.outer(me.group)
    mine.walk(outer, EVERY)
    if me.rank == 1:
        with torch.no_grad():
            mine.params["bias"][2] = float("nan")
    before = kept(mine, outer)
    words = raised(outer.synchronize)
    after = kept(mine, outer)
    outer.reset(me.group)
    reset = kept(mine, outer)
    mine.walk(outer, EVERY)
    outer.close()
    return words, before, after, reset, mine.values()


def apart(me: Rank) -> Any:
    """The last rank has an older checkpoint: what an outer step raises, and what a reset makes of all."""
    mine = Walk(me.rank)
    outer = mine.outer(me.group)
    mine.walk(outer, EVERY)
    older = io.BytesIO()
    torch.save(outer.state_dict(), older)
    mine.walk(outer, EVERY)
    newest = kept(mine, outer)
    if me.rank == me.world - 1:
        outer.load_state_dict(torch.load(io.BytesIO(older.getvalue()), weights_only=True))
    words = raised(outer.synchronize)
    mine.step()
    outer.reset(me.group)
    reset = kept(mine, outer)
    outer.close()
    return words, newest, reset


def disagreeing(me: Rank, options: list[dict[str, Any]], shape: bool) -> str:
    """What making one raises where ranks have different options, or parameters of other shapes."""
    mine = Walk(me.rank)
    if shape and me.rank == 1:
        mine.params["bias"] = torch.nn.Parameter(torch.zeros(6))
    params = mine.params.values()
    return raised(lambda: DiLoCo(params, torch.optim.SGD(params, lr=1.0), group=me.group, **options[me.rank]))


VICTIM = 1


def meet(me: Rank, port: int, world: int) -> None:
    """Leaves the group of all ranks, and begins another one."""
    dist.destroy_process_group()
    store = dist.TCPStore("127.0.0.1", port)
    limit = timedelta(seconds=60)
    dist.init_process_group("gloo", store=store, rank=me.rank, world_size=world, timeout=limit)


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def one_is_killed(me: Rank, port: int) -> Any:
    """A job of which one rank dies in an outer step, after its codes were sent and before its sum was."""
    mine = Walk(me.rank)
    outer = mine.outer(None)
    mine.walk(outer, 2 * EVERY - 1)
    mine.step()
    if me.rank == VICTIM:
        _exchange._Exchange._publish = die
    before = kept(mine, outer)
    words = raised(outer.step)
    after = kept(mine, outer)
    again = raised(outer.step)
    meet(me, port, me.world)
    outer.reset()
    return words, again, before, after, *on_from_there(mine, outer)


def newcomer(me: Rank, port: int, world: int) -> Any:
    """The process that takes the place of the one that died, and knows nothing."""
    me = me._replace(rank=VICTIM)
    meet(me, port, world)
    mine = Walk(me.rank, seed=9)
    return on_from_there(mine, mine.outer(None))


def on_from_there(mine: Walk, outer: DiLoCo) -> Any:
    reset = kept(mine, outer)
    said = mine.walk(outer, 2 * EVERY)
    outer.close()
    return reset, said, mine.values()
