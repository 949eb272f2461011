"""DiLoCo: ranks train on their own, and meet from time to time to exchange how far each has come.

    anchors       the parameters after the last outer step, the same bits on every rank
    inner steps   of each rank alone: its parameters leave the anchors
    outer step    pseudo-gradient = anchor - parameter, averaged over ranks in codes; the outer optimizer steps from the
                  anchors by it; what comes out are the new anchors, and the parameters of all

The outer optimizer holds the parameters themselves, as any optimizer does: for its step they are set back to the
anchors, and their gradients to the averages. Nothing is written before all has arrived, so an outer step that fails
leaves parameters, anchors, momentum and debts as they were.
"""

from __future__ import annotations

import io
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.distributed as dist

from piquant._dtypes import shown
from piquant.distributed import _exchange
from piquant.distributed._arguments import read_options, read_seed, read_tensor, read_whole
from piquant.distributed._group import DisagreementError, Group
from piquant.distributed._plan import disagreement, layout_of, make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from piquant._dtypes import Integer
    from piquant.distributed._plan import Options

_VERSION: Final = 1  # of what state_dict returns


class DiLoCo:
    """Distributed low-communication training: ranks take inner steps alone, and exchange what came of them in codes.

    Each rank trains on its own data with an optimizer of its own. After ``every`` inner steps the ranks average how far
    each has come since the last time, and an outer optimizer steps by that average from where they began. All go on
    from the same parameters, the same bits on every rank. Buffers, such as running means, stay each rank's own.

    Making one is a collective call, as ``synchronize`` and ``reset`` are. All ranks begin with the parameters of rank
    0; where others call ``reset`` meanwhile, with those of the rank that has taken most outer steps. Memory: anchors,
    one copy of the parameters; debts, a float32 for each element; during an outer step as much for pseudo-gradients.

    Args:
        params: the parameters to train, as ``model.parameters()`` or ``model.named_parameters()``. Names are those of
            checkpoints; without, parameters are numbered. On the CPU.
        outer_optimizer: an optimizer of the same parameters, and no others: for one, ``torch.optim.SGD(params, lr=0.7,
            momentum=0.9, nesterov=True)``. It sees the averages as gradients.
        every: inner steps between outer steps, at least 1, the same on all ranks.
        dtype: codes that are exchanged: "int8", "int4" or "int2"; ``None`` exchanges float32.
        error_feedback: whether a rank keeps what rounding took from its pseudo-gradients, and adds it to the next ones.
            Rounding is then to nearest; else it is stochastic.
        block_size: elements that share a scale.
        group: process group; ``None`` is that of all ranks.
        seed: of stochastic rounding, the same on all ranks.
        segment_bytes: how much travels at a time; ``None`` goes by the round trip time.

    Attributes:
        rounds: outer steps so far.
        inner_steps: inner steps since the last outer step.
        every: inner steps between outer steps.
        outer_optimizer: the optimizer.

    Raises:
        ValueError: ``params`` is empty, has a name twice, or a parameter that is no leaf of a floating-point type;
            ``outer_optimizer`` has other parameters; another argument is out of range; or parameters or arguments
            differ between ranks, which every rank raises.
        TypeError: an argument has a wrong type.
        NotImplementedError: a parameter is not on the CPU.
        RuntimeError: a rank is gone, or did not come.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[tuple[str, torch.Tensor]],
        outer_optimizer: torch.optim.Optimizer,
        every: Integer = 500,
        dtype: torch.dtype | str | None = "int4",
        *,
        error_feedback: bool = True,
        block_size: Integer = 256,
        group: dist.ProcessGroup | None = None,
        seed: Integer = 0,
        segment_bytes: Integer | None = None,
    ) -> None:
        self._options = read_options(dtype, block_size, "nearest" if error_feedback else "stochastic", segment_bytes)
        self._params = _read_params(params, self._options)
        _check_optimizer(outer_optimizer, self._params)
        self._seed = read_seed(seed, self._options)
        self.outer_optimizer = outer_optimizer
        self.every = read_whole(every, "every")
        self.inner_steps = 0
        self.rounds = 0
        sizes = [param.numel() for param in self._params.values()]
        self._ends = list(accumulate(sizes))
        self._anchors = {name: param.detach().clone() for name, param in self._params.items()}
        has_debts = error_feedback and self._options.dtype is not None
        self._debt = torch.zeros(self._ends[-1], device=self._tensor_device()) if has_debts else None
        self._group = Group(group)
        self._join()

    def step(self) -> bool:
        """Counts an inner step, which the caller has just taken; the ``every``-th synchronizes.

        Returns:
            Whether it did.

        Raises:
            RuntimeError: as ``synchronize``.
            FloatingPointError: as ``synchronize``.
        """
        self.inner_steps += 1
        if self.inner_steps < self.every:
            return False
        self.synchronize()
        return True

    @torch.no_grad()
    def synchronize(self) -> None:
        """Takes an outer step now, however many inner steps there were: at the end of training, say.

        After these errors parameters, anchors, momentum and debts are what they were.

        Raises:
            RuntimeError: a rank is gone, or did not come. Go on with ``reset`` and a new group, with a process in the
                place of the lost one or without.
            FloatingPointError: a parameter is not finite, on any rank. Every rank raises it; ``reset`` goes back to
                the anchors.
            ValueError: ranks have taken different numbers of outer steps, after they loaded different checkpoints.
                Every rank raises it; ``reset`` brings them together.
        """
        flat = torch.empty(self._ends[-1], device=self._tensor_device())
        pseudo_gradients = self._split(flat)
        for name, param in self._params.items():
            wide = torch.promote_types(param.dtype, torch.float32)
            pseudo_gradients[name].copy_(self._anchors[name].to(wide) - param.to(wide))
        # Times the ranks, as sums must be finite, too.
        is_finite = bool((flat.abs().amax() * self._group.world_size).isfinite())
        everyone = self._gather(self.rounds, is_finite)
        _check_alike([{"outer steps": rounds} for rounds, _ in everyone], "; reset brings them together")
        if diverged := [rank for rank, (_, finite) in enumerate(everyone) if not finite]:
            raise FloatingPointError(f"parameters are not finite on ranks {diverged}, in outer step {self.rounds}")
        if self._group.world_size > 1:
            self._run(lambda: self._average(flat))
        self._step_from_anchors(pseudo_gradients)
        self.rounds += 1
        self.inner_steps = 0

    def _average(self, flat: torch.Tensor) -> None:
        self._group.calls = self.rounds  # which random words depend on; a new group counts anew
        _exchange.all_reduce(self._group, [flat], "avg", self._options, seed=self._seed, debt=self._debt)

    def _step_from_anchors(self, pseudo_gradients: Mapping[str, torch.Tensor]) -> None:
        gradients = {name: param.grad for name, param in self._params.items()}
        for name, param in self._params.items():
            param.copy_(self._anchors[name])
            param.grad = pseudo_gradients[name].to(param.dtype)
        self.outer_optimizer.step()
        for name, param in self._params.items():
            self._anchors[name].copy_(param)
            param.grad = gradients[name]

    def reset(self, group: dist.ProcessGroup | None = None) -> None:
        """Goes back to the last outer step, in a new group: after a rank was lost, or came anew.

        Anchors, momentum and the number of outer steps become those of the rank that has taken most, and parameters
        become the anchors, on all ranks. Debts stay, of ranks that have taken as many outer steps; those of others are
        out of date, and become 0.

        A collective call: processes that were started again make a ``DiLoCo`` while the others call this.

        Args:
            group: process group; ``None`` is that of all ranks.

        Raises:
            ValueError: parameters or arguments differ between ranks. Every rank raises it.
            RuntimeError: a rank is gone, or did not come. ``reset`` may be called again.
        """
        self._group.abandon()
        self._group = Group(group)
        self._join()

    @torch.no_grad()
    def _join(self) -> None:
        """Brings all ranks to the state of the one that is furthest."""
        if self._group.world_size > 1:
            layout = layout_of([(f"{name} {param.dtype}", tuple(param.shape)) for name, param in self._params.items()])
            ranks = self._group.world_size
            alike = make_plan("all_reduce", self._ends[-1], ranks, "float32", "avg", self._options, layout)
            self._run(lambda: self._group.agree(self._group.announce(alike)))
        everyone = self._gather(self.rounds, self.every)
        _check_alike([{"every": every} for _, every in everyone])
        rounds = [theirs for theirs, _ in everyone]
        if self._group.world_size > 1:
            state = self._broadcast(self._shared(), rounds.index(max(rounds)))
            if self._debt is not None and self.rounds < state["rounds"]:
                self._debt.zero_()
            self._load_shared(state)
        for name, param in self._params.items():
            param.copy_(self._anchors[name])
        self.inner_steps = 0

    def close(self) -> None:
        """Ends the thread and the group of this object. Later outer steps raise, unless ``reset`` comes first."""
        self._group.close()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs beside those of the model and of the inner optimizer: tensors, numbers and strings.

        Debts are of this rank; all else is the same on every rank. Tensors are not copied, as in torch's own.
        """
        debts = {} if self._debt is None else self._split(self._debt)
        return {**self._shared(), "inner_steps": self.inner_steps, "debts": debts}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what ``state_dict`` gave. Parameters are left to the checkpoint of the model.

        It is no collective call. If ranks may have checkpoints of different outer steps, let all ``reset`` afterwards.

        Args:
            state: of the same parameters. Debts may be missing: those of a rank that is new are 0.

        Raises:
            ValueError: it is of another version, or of other parameters. Nothing was loaded.
        """
        if state.get("version") != _VERSION:
            raise ValueError(f"state must be of version {_VERSION}, got {shown(state.get('version'))}")
        _check_like(state["anchors"], self._anchors, "anchors")
        debts = state["debts"] if self._debt is not None else {}
        if debts:
            _check_like(debts, self._anchors, "debts")
        self._load_shared(state)
        self.inner_steps = state["inner_steps"]
        if self._debt is not None:
            self._debt.zero_()
            for name, debt in self._split(self._debt).items():
                debt.copy_(debts.get(name, debt))

    def _shared(self) -> dict[str, Any]:
        """What is the same on every rank."""
        optimizer = self.outer_optimizer.state_dict()
        return {"version": _VERSION, "rounds": self.rounds, "anchors": {**self._anchors}, "outer_optimizer": optimizer}

    def _load_shared(self, state: Mapping[str, Any]) -> None:
        self.outer_optimizer.load_state_dict(state["outer_optimizer"])
        self.rounds = state["rounds"]
        for name, anchor in self._anchors.items():
            anchor.copy_(state["anchors"][name])

    def _tensor_device(self) -> torch.device:
        return next(iter(self._params.values())).device

    def _split(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """Views by name of a flat tensor of all elements, in the shapes of the parameters."""
        begins = [0, *self._ends[:-1]]
        return {
            name: flat[begin:end].view(param.shape)
            for (name, param), begin, end in zip(self._params.items(), begins, self._ends, strict=True)
        }

    # What ranks tell each other.

    def _run(self, job: Callable[[], None]) -> None:
        self._group.submit(job, []).wait()

    def _gather(self, *numbers: int) -> list[list[int]]:
        """These numbers, of each rank."""
        mine = torch.tensor(numbers, device=self._device())
        if self._group.world_size == 1:
            return [list(numbers)]
        every = mine.new_empty(self._group.world_size, len(numbers))
        self._run(lambda: self._group.gather(every.view(-1), mine).wait())
        numbers_of: list[list[int]] = every.tolist()
        return numbers_of

    def _device(self) -> torch.device:
        return torch.device("cpu") if self._group.world_size == 1 else self._group.device()

    def _broadcast(self, state: Mapping[str, Any], source: int) -> dict[str, Any]:
        """The state that a rank has, for all."""
        buffer = io.BytesIO()
        if self._group.rank == source:
            torch.save(state, buffer)
        size = torch.tensor([buffer.getbuffer().nbytes], device=self._device())
        self._run(lambda: self._group.broadcast(size, source).wait())
        received = bytearray(buffer.getvalue()) if self._group.rank == source else bytearray(int(size))
        message = torch.frombuffer(received, dtype=torch.uint8)
        sent = message.to(self._device())
        self._run(lambda: self._group.broadcast(sent, source).wait())
        message.copy_(sent)
        loaded: dict[str, Any] = torch.load(io.BytesIO(received), weights_only=True)
        return loaded


def _read_params(
    params: Iterable[torch.Tensor] | Iterable[tuple[str, torch.Tensor]], options: Options
) -> dict[str, torch.Tensor]:
    """Parameters by name, or by number where they have none."""
    if isinstance(params, torch.Tensor):
        raise TypeError("params must be an iterable of tensors, or of pairs of a name and a tensor, got a tensor")
    read: dict[str, torch.Tensor] = {}
    for number, entry in enumerate(params):
        name, param = entry if isinstance(entry, tuple) else (str(number), entry)
        if not isinstance(name, str):
            raise TypeError(f"names of params must be str, got {shown(name)}")
        read_tensor(param, f"params[{name!r}]", options, integers=False)
        if not param.is_leaf:
            raise ValueError(f"params[{name!r}] must be a leaf, got the result of an operation")
        if name in read or any(param is other for other in read.values()):
            raise ValueError(f"params must not have a name or a tensor twice, got {name!r} again")
        read[name] = param
    if len(devices := {param.device for param in read.values()}) > 1:
        raise ValueError(f"params must be on one device, got some on each of {', '.join(sorted(map(str, devices)))}")
    if not any(param.numel() for param in read.values()):
        raise ValueError("params must have elements, got none")
    return read


def _check_optimizer(optimizer: torch.optim.Optimizer, params: Mapping[str, torch.Tensor]) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"outer_optimizer must be a torch.optim.Optimizer, got {shown(optimizer)}")
    own = {param for group in optimizer.param_groups for param in group["params"]}
    lacks = [name for name, param in params.items() if param not in own]
    others = len(own) - len(params) + len(lacks)
    if lacks or others:
        raise ValueError(
            f"outer_optimizer must have the parameters of params and no others, got one with {others} others, "
            f"and without {', '.join(lacks) or 'none of them'}"
        )


def _check_like(tensors: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], argument: str) -> None:
    """Refuses tensors of other names or shapes."""
    shapes, own_shapes = ({name: tuple(tensor.shape) for name, tensor in of.items()} for of in (tensors, own))
    for name in dict.fromkeys((*own_shapes, *shapes)):
        if shapes.get(name) != own_shapes.get(name):
            wanted, got = (_described(of.get(name)) for of in (own_shapes, shapes))
            raise ValueError(f"state[{argument!r}][{name!r}] must be {wanted}, got {got}")


def _described(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else f"of shape {shape}"


def _check_alike(records: Sequence[dict[str, int | str]], hint: str = "") -> None:
    if differs := disagreement(records):
        raise DisagreementError(f"ranks must have the same, got {differs}{hint}")
