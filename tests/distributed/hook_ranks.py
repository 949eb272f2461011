"""What ranks do in test_hook.py and test_debts.py: they train small models under DDP, and keep a book of gradients."""

import contextlib
import copy
import io
import os
import pickle
import random
import signal
import time
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from piquant.distributed import QuantizeState, _exchange, quantize_hook
from piquant.distributed._group import Group

Book = dict[str, np.ndarray]


class Bucket(NamedTuple):
    """A bucket of one rank: its gradients, what became of them, and names and shapes in their order."""

    gradients: np.ndarray
    result: np.ndarray
    pieces: list[tuple[str, tuple[int, ...]]]


def make_model(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Some parameters are exempt, and one has strides of its own."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 48, 3).to(memory_format=torch.channels_last),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(48 * 9, 61),
        nn.LayerNorm(61),
        nn.Linear(61, 40),
    ).to(dtype)


def loss_of(model: nn.Module, rank: int, step: int) -> torch.Tensor:
    x = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(1000 * step + rank))
    dtype = next(model.parameters()).dtype
    loss: torch.Tensor = model(x.to(dtype)).float().square().mean()
    return loss


class Branches(nn.Module):
    """A layer that some ranks use in some steps, and one that nobody ever does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.some, self.none = nn.Linear(30, 50), nn.Linear(50, 50), nn.Linear(50, 50)

    def forward(self, x: torch.Tensor, through: bool) -> torch.Tensor:
        x = self.first(x)
        return self.some(x) if through else x


def loss_of_branches(model: nn.Module, rank: int, step: int) -> torch.Tensor:
    """All ranks go through the branch in step 0, one in steps 1 and 3, none in step 2."""
    x = torch.randn(4, 30, generator=torch.Generator().manual_seed(1000 * step + rank))
    loss: torch.Tensor = model(x, step == 0 or (step != 2 and rank == 0)).square().mean()
    return loss


class Trainer:
    """A model under DDP with the hook, and a book of its gradients: sums over the steps, by parameter.

    Attributes:
        gradients: this rank's own.
        results: those that DDP left.
        buckets: as they came.
    """

    def __init__(
        self,
        group: dist.ProcessGroup,
        state: QuantizeState,
        model: nn.Module,
        loss: Any = loss_of,
        hook: Any = None,
        **options: Any,
    ) -> None:
        self.rank, self.state, self.model, self.loss = group.rank(), state, model, loss
        self.ddp = DistributedDataParallel(model, process_group=group, **options)
        self.ddp.register_comm_hook(state, hook or self._hook)
        self.named = dict(model.named_parameters())
        self._names = {parameter: name for name, parameter in self.named.items()}
        self.gradients = {name: np.zeros(p.shape) for name, p in self.named.items()}
        self.results = {name: np.zeros(p.shape) for name, p in self.named.items()}
        self.buckets: list[Bucket] = []

    def _hook(self, state, bucket):  # without types, which DDP would compare with its own
        pieces = [(self._names[parameter], tuple(parameter.shape)) for parameter in bucket.parameters()]
        gradients = bucket.buffer().double().numpy()

        def note(done):
            self.buckets.append(Bucket(gradients, done.value().double().numpy(), pieces))
            return done.value()

        return quantize_hook(state, bucket).then(note)

    def own(self, step: int) -> None:
        """Books the own gradients: of the module inside, of which DDP sees nothing."""
        loss = self.loss(self.model, self.rank, step)
        for name, gradient in zip(
            self.named, torch.autograd.grad(loss, list(self.named.values()), allow_unused=True), strict=True
        ):
            if gradient is not None:
                self.gradients[name] += gradient.double().numpy()

    def backward(self, step: int) -> None:
        self.own(step)
        self.loss(self.ddp, self.rank, step).backward()

    def step(self) -> None:
        """SGD by the gradients that are there."""
        with torch.no_grad():
            for name, parameter in self.named.items():
                if parameter.grad is not None:
                    self.results[name] += parameter.grad.double().numpy()
                    parameter.sub_(parameter.grad, alpha=0.05)
        self.ddp.zero_grad()

    def run(self, *steps: int) -> "Trainer":
        for step in steps:
            self.backward(step)
            self.step()
        return self

    def lost(self) -> Book:
        """What no step went by. Together, the ranks owe it."""
        return {name: self.gradients[name] - self.results[name] for name in self.named}

    def parameters(self) -> Book:
        return {name: parameter.detach().float().numpy() for name, parameter in self.named.items()}

    def debts(self) -> Book:
        return {name: debt.double().numpy() for name, debt in self.state.state_dict()["debt"].items()}


def train(me, state_options, ddp_options, real="float32", steps=3):
    """Three steps of which everything is told."""
    state = QuantizeState(me.group, **state_options)
    trainer = Trainer(me.group, state, make_model(getattr(torch, real)), **ddp_options)
    if state_options.get("error_feedback"):
        state.bind(trainer.ddp)
    trainer.run(*range(steps))
    state.close()
    return trainer.buckets, trainer.parameters(), trainer.lost(), trainer.debts(), state.stats()


def accumulate(me):
    """Two backward passes of which only the second is exchanged, twice."""
    state = QuantizeState(me.group, dtype="int4", error_feedback=True)
    trainer = Trainer(me.group, state, make_model())
    state.bind(trainer.ddp)
    counts = []
    for step in range(2):
        with trainer.ddp.no_sync():
            trainer.backward(2 * step)
            counts.append(len(trainer.buckets))
        trainer.backward(2 * step + 1)
        counts.append(len(trainer.buckets))
        trainer.step()
    return counts, trainer.lost(), trainer.debts()


def scale_loss(me, bad_rank, value):
    """Three steps with a loss scale, of which the gradient of the second is not finite, in one place on one rank."""
    state = QuantizeState(me.group, error_feedback=True)
    model = make_model()
    trainer = Trainer(me.group, state, model)
    state.bind(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=100)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    told = []
    for step in range(3):
        optimizer.zero_grad()
        loss = loss_of(trainer.ddp, me.rank, step)
        if step == 1 and me.rank == bad_rank:
            handle = model[3].weight.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor(7), value))
        scaler.scale(loss).backward()
        if step == 1 and me.rank == bad_rank:
            handle.remove()
        before = trainer.parameters()["0.weight"].copy()
        scaler.step(optimizer)
        scaler.update()
        told.append((bool((before != trainer.parameters()["0.weight"]).any()), scaler.get_scale()))
    finite = all(bool(np.isfinite(debt).all()) for debt in trainer.debts().values())
    return told, finite, trainer.parameters()


def many_buckets(me, seed):
    """Fourteen buckets in flight while each rank takes its time, with the user's own collectives in between."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(40, 40) for _ in range(14)))

    def loss(model, rank, step):
        return model(torch.full((2, 40), rank + step + 1.0)).square().mean()

    trainer = Trainer(me.group, QuantizeState(me.group), model, loss, bucket_cap_mb=0.006)
    randomness = random.Random(100 * seed + me.rank)
    sums = []

    def take_time(_):
        time.sleep(randomness.random() * 0.004)
        mine = torch.full((5000,), float(me.rank))
        dist.all_reduce(mine, group=me.group)
        sums.append(float(mine[-1]))

    for layer in model:
        layer.weight.register_post_accumulate_grad_hook(take_time)
    trainer.run(0, 1, 2)
    return len(trainer.buckets), sums, trainer.parameters()


def disagree(me):
    """Ranks exempt different parameters. All are told, and can go on once they agree."""
    options = {"exempt": 1024 + 4000 * me.rank}
    trainer = Trainer(me.group, QuantizeState(me.group, **options), make_model())
    try:
        trainer.backward(0)
    except RuntimeError as error:
        return str(error)
    return None


class BrokenWork:
    def wait(self):
        raise RuntimeError("a broken message")


@contextlib.contextmanager
def broken(place):
    """No message is what it should be, or torch's own sum fails, on all ranks."""
    owner, name = {"messages": (_exchange._Exchange, "_check"), "sum": (Group, "all_reduce")}[place]
    right = getattr(owner, name)

    def wrong(of, tensor, *rest):
        if place == "messages":
            raise RuntimeError("a broken message")
        right(of, tensor, *rest).wait()
        return BrokenWork()

    setattr(owner, name, wrong)
    try:
        yield
    finally:
        setattr(owner, name, right)


def error_of(call, *arguments):
    try:
        call(*arguments)
    except RuntimeError as error:
        return str(error)
    return ""


def fail(me, place):
    """The exchange fails in step 2. Then the state goes on in a new group."""
    state = QuantizeState(me.group, dtype="int4", error_feedback=True)
    first = Trainer(me.group, state, make_model(), hook=quantize_hook, gradient_as_bucket_view=True)
    state.bind(first.model)
    first.run(0, 1)
    debts = first.debts()
    with broken(place):
        told = [error_of(loss_of(first.ddp, me.rank, 2).backward)]
    kept = all(np.array_equal(debt, debts[name]) for name, debt in first.debts().items())
    left = {name: parameter.grad.double().numpy() for name, parameter in first.named.items()}
    before = first.gradients
    first.gradients = {name: np.zeros_like(gradient) for name, gradient in before.items()}
    first.own(2)
    kept = kept and all(np.array_equal(first.gradients[name], gradient) for name, gradient in left.items())
    first.gradients = before

    # DDP cannot go on with parameters whose backward pass broke off.
    second, third = copy.deepcopy(first.model), copy.deepcopy(first.model)
    told.append(error_of(loss_of(Trainer(me.group, state.bind(second), second).ddp, me.rank, 2).backward))
    state.reset(me.group)
    third.zero_grad()
    last = Trainer(me.group, state.bind(third), third).run(3, 4)
    return told, kept, [first.lost(), last.lost()], last.debts()


def go_on(me, saved, bind, ddp_options=None):
    """Three steps with what was saved, if it was, and what there is to save then."""
    state = QuantizeState(me.group, dtype="int4", error_feedback=True)
    model = make_model()
    if bind:
        state.bind(model)
    if saved is not None:
        state.load_state_dict(saved)
    trainer = Trainer(me.group, state, model, **ddp_options or {}).run(3, 4, 5)
    own, together = saved_and_loaded(state.state_dict()), saved_and_loaded(state.consolidate())
    return trainer.lost(), own, together, trainer.parameters()


def saved_and_loaded(state):
    """Through a file that holds nothing but tensors and plain types."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def resume(me):
    """Steps after a checkpoint, in the process that wrote it and from the checkpoint: with stochastic rounding."""
    told = []
    for error_feedback in (False, True):
        state = QuantizeState(me.group, dtype="int4", error_feedback=error_feedback, seed=5)
        model = make_model()
        state.bind(model)
        Trainer(me.group, state, model).run(0, 1, 2)
        weights, saved = copy.deepcopy(model.state_dict()), saved_and_loaded(state.state_dict())
        went_on = Trainer(me.group, state, model).run(3, 4).parameters()
        for other in (
            QuantizeState(me.group, dtype="int4", error_feedback=error_feedback),
            pickle.loads(pickle.dumps(state)),
        ):
            model = make_model()
            model.load_state_dict(weights)
            other.reset(me.group)
            other.bind(model).load_state_dict(saved)
            resumed = Trainer(me.group, other, model).run(3, 4).parameters()
            told.append(all(np.array_equal(went_on[name], resumed[name]) for name in went_on))
    return told


def branch(me):
    """Parameters that some ranks, or all, do not use in some steps."""
    state = QuantizeState(me.group, dtype="int2", error_feedback=True)
    model = Branches()
    trainer = Trainer(me.group, state.bind(model), model, loss_of_branches, find_unused_parameters=True)
    trainer.run(0, 1, 2, 3)
    return trainer.lost(), trainer.debts(), model.none.weight.grad is None


def drop_out(me):
    """Ranks have different numbers of batches, and those that are done join the rest."""
    state = QuantizeState(me.group, dtype="int4", error_feedback=True)
    trainer = Trainer(me.group, state, make_model())
    state.bind(trainer.model)
    with trainer.ddp.join():
        for step in range(2 + me.rank):
            trainer.run(step)
    return trainer.parameters(), trainer.debts()


def misuse(me):
    """What is refused, and with which words."""
    model = make_model()
    other = nn.Linear(60, 60)
    stranger = {"0.weight": torch.zeros(3), "x": torch.zeros(48, 4, 3, 3)}
    with_debts = QuantizeState(me.group, error_feedback=True)
    good = with_debts.state_dict()
    calls = [
        lambda: QuantizeState(me.group, dtype=None, error_feedback=True),
        lambda: QuantizeState(me.group, round_mode="stochastic", error_feedback=True),
        lambda: QuantizeState(me.group, dtype="uint8"),
        lambda: QuantizeState(me.group, block_size=0),
        lambda: QuantizeState(me.group, exempt=-1),
        lambda: QuantizeState(me.group, seed=-1),
        lambda: with_debts.load_state_dict({"debt": {}}),
        lambda: with_debts.load_state_dict(good | {"version": 2}),
        lambda: with_debts.load_state_dict(good | {"world_size": 9, "debt": stranger}),
        lambda: QuantizeState(me.group).load_state_dict(good | {"debt": stranger}),
        lambda: QuantizeState(me.group, error_feedback=True).bind(model).load_state_dict(good | {"debt": stranger}),
        lambda: QuantizeState(me.group, error_feedback=True).bind(other).load_state_dict(good | {"debt": stranger}),
    ]
    told = []
    for call in calls:
        try:
            call()
        except ValueError as error:
            told.append((type(error).__name__, str(error)))
        else:
            told.append(("", ""))
    return told


def die_in_backward(me, victim):
    """One rank is killed between two buckets."""
    trainer = Trainer(me.group, QuantizeState(me.group), make_model(), bucket_cap_mb=0.005)
    trainer.run(0)
    if me.rank == victim:
        trainer.named["3.weight"].register_hook(lambda _: os.kill(os.getpid(), signal.SIGKILL))
    return [error_of(loss_of(trainer.ddp, me.rank, 1).backward), error_of(trainer.state.consolidate)]
