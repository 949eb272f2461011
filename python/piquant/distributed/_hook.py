"""DDP with quantized gradients: a communication hook, and what it keeps from step to step.

DDP compares the annotations of a hook with objects, so this module must not turn them into strings.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import GradBucket  # as dist.GradBucket, which type checkers do not find
from torch.futures import Future

from piquant._dtypes import shown
from piquant.distributed import _exchange
from piquant.distributed._arguments import read_options, read_seed, read_tensor, read_whole
from piquant.distributed._buckets import Names, Piece
from piquant.distributed._codec import codec_for
from piquant.distributed._debts import Debts
from piquant.distributed._group import Group
from piquant.distributed._plan import Options, Plan, layout_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from piquant._dtypes import Integer, RoundModeLike

_VERSION = 1  # of what state_dict returns
_KEYS = ("version", "call", "seed", "world_size", "consolidated", "options", "debt")


class QuantizeState:
    """What ``quantize_hook`` keeps from step to step: how gradients are sent, and what rounding kept back of them.

    ::

        ddp = DistributedDataParallel(model)
        state = QuantizeState(dtype="int4", error_feedback=True).bind(model)
        ddp.register_comm_hook(state, quantize_hook)

    Making one is collective: all ranks of the process group do it at the same place, with the same arguments. The state
    has a process group of its own, and a thread that exchanges one bucket after the other, while DDP computes the next.

    With ``error_feedback``, what rounding keeps back of a gradient is owed, and added to the next one: what all steps
    went by, and what all ranks owe, is together the sum of all gradients. That takes another float32 for each element
    of a gradient (float64 of float64). It is for optimizers like SGD, at 2 to 4 bits; 8 bits need none, and with Adam
    it is no better than stochastic rounding. What is owed of a gradient that is zero throughout waits. When a loss
    scale changes, debts of the old scale are paid once.

    Debts belong to parameters: they stay when DDP rebuilds its buckets. ``bind`` says what parameters are called.
    Without it they go by numbers, "#0" and on, in the order in which gradients first came, so that a checkpoint fits
    the same model, wrapped with the same options of DDP.

    Args:
        process_group: of the ranks of DDP; by default all. The state makes one of its own of the same ranks.
        dtype: "int8", "int4" or "int2"; ``None`` leaves gradients to torch, in their own type, to compare with.
        block_size: elements that share a scale.
        round_mode: "stochastic", the default, is without bias; "nearest" is the default and a must with
            ``error_feedback``.
        error_feedback: whether to owe what rounding keeps back.
        exempt: gradients of fewer elements, or of fewer than two dimensions, are summed exactly, by torch; 0 exempts
            none.
        seed: of stochastic rounding. Calls are numbered, and each draws other random words.
        segment_bytes: bytes of the codes that travel at a time to each rank; ``None`` goes by the round trip time.

    Raises:
        ValueError: an argument is not as above; there is no process group.
        TypeError: an argument of another type.
    """

    def __init__(
        self,
        process_group: dist.ProcessGroup | None = None,
        dtype: torch.dtype | str | None = "int8",
        block_size: "Integer" = 256,
        round_mode: "RoundModeLike | None" = None,
        error_feedback: bool = False,
        exempt: "Integer" = 1024,
        seed: "Integer" = 0,
        segment_bytes: "Integer | None" = None,
    ) -> None:
        if error_feedback and dtype is None:
            raise ValueError("error_feedback must be False where dtype is None: nothing is rounded, nothing is owed")
        if error_feedback and round_mode not in (None, "nearest"):
            raise ValueError(f'round_mode must be "nearest" or None with error_feedback, got {shown(round_mode)}')
        if round_mode is None:
            round_mode = "nearest" if error_feedback else "stochastic"
        self._options = read_options(dtype, block_size, round_mode, segment_bytes)
        self._error_feedback = bool(error_feedback)
        self._exempt = read_whole(exempt, "exempt", 0)
        self._seed = read_seed(seed, self._options)
        self._names = Names()
        self._debts = Debts()
        self._counts = dict.fromkeys(("buckets", "elements", "exempt_elements", "sent_bytes"), 0)
        self._calls_before = 0
        self._group: Group | None = Group(process_group)

    def bind(self, model: torch.nn.Module) -> "Self":
        """Names parameters, and so their debts, as ``model.named_parameters()`` does.

        It may be called at any time: before debts are loaded, after that, or before they are saved.

        Args:
            model: the module, or DDP around it.

        Returns:
            The state.

        Raises:
            ValueError: a debt is owed of a parameter that the model does not have, or has in another shape.
        """
        self._debts.rename(self._names.bind(model, self._debts.shapes()))
        return self

    def state_dict(self) -> dict[str, Any]:
        """What this rank needs to go on: ``load_state_dict`` of as many ranks then gives the same bits.

        Returns:
            - "version", "options", "world_size": of the format, and how it was made.
            - "call", "seed": how many buckets were exchanged, and what random words come from.
            - "debt": by the name of each parameter what this rank owes, in its shape, float32, in units of the sum over
              the ranks. Empty without error feedback.
            - "consolidated": False, as debts are those of one rank.
        """
        return self._state(self._debts.copies(), consolidated=False)

    def consolidate(self) -> dict[str, Any]:
        """The same with the debts of all ranks together, for any number of ranks: each then owes its share.

        Collective: all ranks call it, between steps. All get the same.

        Returns:
            As ``state_dict``, with "consolidated" True.

        Raises:
            DisagreementError: ranks owe debts of different parameters.
            RuntimeError: the state was closed, or an exchange failed.
        """
        group = self._ready()
        debts = self._debts.copies()
        if group.world_size > 1:
            group.submit(partial(_sum_all, group, debts), []).wait()
        return self._state(debts, consolidated=True)

    def _state(self, debts: dict[str, torch.Tensor], consolidated: bool) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "call": self._calls(),
            "seed": self._seed,
            "world_size": self._ready().world_size,
            "consolidated": consolidated,
            "options": asdict(self._options) | {"error_feedback": self._error_feedback, "exempt": self._exempt},
            "debt": debts,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes calls, seed and debts of a state that was saved. Options stay those that this state was made with.

        Args:
            state: of ``state_dict`` from the same rank of as many ranks, or of ``consolidate``.

        Raises:
            ValueError: it is not such a state, or another version's; its debts are of one rank of another number of
                ranks, or of parameters that the bound model does not have; there are debts, and no error feedback.
            TypeError: debts are not tensors.
        """
        missing = [key for key in _KEYS if key not in state]
        if missing:
            raise ValueError(f"state must be what state_dict or consolidate returned, got none of {', '.join(missing)}")
        if state["version"] != _VERSION:
            raise ValueError(f"state must have version {_VERSION}, got {shown(state['version'])}")
        group, debts = self._ready(), dict(state["debt"])
        for name, debt in debts.items():
            if not isinstance(debt, torch.Tensor):
                raise TypeError(f"debt[{name!r}] must be a torch.Tensor, got {type(debt).__name__}")
        if debts and not self._error_feedback:
            raise ValueError("state must have an empty debt where error_feedback is False: it would never be paid")
        if debts and not state["consolidated"] and state["world_size"] != group.world_size:
            raise ValueError(
                f"state must be of {group.world_size} ranks, as this group is, got one of {state['world_size']}: "
                "what consolidate returns fits any number"
            )
        misfit = self._names.misfit({name: tuple(debt.shape) for name, debt in debts.items()})
        if misfit is not None:
            raise ValueError(misfit)
        self._debts.replace(debts, 1 / group.world_size if state["consolidated"] else 1.0)
        self._seed, group.calls = state["seed"], state["call"]

    def stats(self) -> dict[str, int]:
        """What was exchanged so far.

        Returns:
            - "buckets": how many.
            - "elements": of these buckets.
            - "exempt_elements": those that torch summed exactly.
            - "sent_bytes": the bytes of codes and scales that this rank sent; without what torch sent.
        """
        return dict(self._counts)

    def reset(self, process_group: dist.ProcessGroup | None = None) -> None:
        """Goes on with another process group: after an error, or when ranks have come or gone. Debts are kept.

        Collective, as is making a state. What is under way in the old group is left behind.

        Args:
            process_group: of the ranks of DDP; by default all.

        Raises:
            ValueError: there is no such process group.
        """
        group = Group(process_group)
        # Ranks that failed may have been a call apart, and others are new.
        calls = torch.tensor(self._calls())
        if group.world_size > 1:
            group.submit(partial(_take_latest, group, calls), [calls]).wait()
        group.calls = int(calls)
        if self._group is not None:
            self._group.abandon()
        self._group = group

    def close(self) -> None:
        """Ends the thread that exchanges, after the buckets that it has. Later ones raise, until ``reset``."""
        if self._group is not None:
            self._group.close()

    def __getstate__(self) -> dict[str, Any]:
        """All but the process group: copies make theirs at the first use, of all ranks, or by ``reset``."""
        return self.__dict__ | {
            "_group": None,
            "_names": None,
            "_debts": self._debts.copies(),
            "_calls_before": self._calls(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _names=Names(), _debts=Debts())
        self._debts.replace(state["_debts"], 1.0)

    def _calls(self) -> int:
        return self._calls_before if self._group is None else self._group.calls

    def _ready(self) -> Group:
        if self._group is None:
            self.reset()
        assert self._group is not None
        return self._group

    # What a step does.

    def _submit(self, bucket: GradBucket) -> Future[torch.Tensor]:
        """A future of the mean of a bucket, which the worker fills."""
        group, known = self._ready(), len(self._names)
        buffer = read_tensor(bucket.buffer(), "gradients", self._options, integers=False)
        pieces = self._names.pieces(bucket)
        misfit = self._names.misfit(self._debts.shapes()) if len(self._names) > known else None
        work = group.submit(partial(self._average, group, buffer, pieces, misfit), [buffer])
        # By a callback, as DDP would take the exception of the future itself for a result.
        return work.get_future().then(_first)

    def _average(self, group: Group, buffer: torch.Tensor, pieces: Sequence[Piece], misfit: str | None) -> None:
        """The mean of a bucket over the ranks, in its place. On any error it is as before, and so are the debts."""
        if group.world_size == 1:
            return
        exempt = [piece for piece in pieces if self._is_exempt(piece)]
        quantized = [piece for piece in pieces if not self._is_exempt(piece)]
        # Ranks agree on the misfit, too, so that all raise if one has debts of other parameters.
        layout = layout_of([(str(self._is_exempt(piece)), piece.shape) for piece in pieces] + [(misfit or "", ())])
        options = self._options if quantized else replace(self._options, dtype=None)
        call = _exchange.announce(group, "all_reduce", buffer.numel(), buffer.dtype, "avg", options, layout)
        if exempt or misfit is not None:
            group.agree(call)
        if misfit is not None:
            raise ValueError(misfit)
        with _averaged_by_torch(group, [piece.span(buffer) for piece in exempt], self._options) as wait:
            if quantized:
                codec = codec_for(buffer.device, group.device(), options, None)
                with self._debts.lend(quantized, buffer) if self._error_feedback else nullcontext() as debt:
                    _exchange.exchange(group, call, codec, buffer, buffer, self._seed, debt, before_writing=wait)
        self._count(group, call.plan, exempt)

    def _count(self, group: Group, plan: Plan, exempt: Sequence[Piece]) -> None:
        exact = sum(piece.numel for piece in exempt)
        sent = 0 if exact == plan.n else _sent_bytes(plan, group.rank)
        for name, more in (("buckets", 1), ("elements", plan.n), ("exempt_elements", exact), ("sent_bytes", sent)):
            self._counts[name] += more

    def _is_exempt(self, piece: Piece) -> bool:
        if self._options.dtype is None:
            return True
        return self._exempt > 0 and (len(piece.shape) < 2 or piece.numel < self._exempt)


@lru_cache
def _sent_bytes(plan: Plan, rank: int) -> int:
    """Bytes of the messages of a rank: parts to their owners, and the own sum to all others."""
    others = [other for other in range(plan.world_size) if other != rank]
    lengths = [plan.segment(owner, k).length for owner in others for k in range(plan.segments)]
    lengths += [plan.longest(k) for _ in others for k in range(plan.segments)]
    return sum(map(plan.message_bytes, lengths))


def _take_latest(group: Group, calls: torch.Tensor) -> None:
    group.all_reduce(calls, dist.ReduceOp.MAX).wait()


def _sum_all(group: Group, debts: dict[str, torch.Tensor]) -> None:
    """Sums debts over the ranks, in place."""
    layout = layout_of([(name, tuple(debt.shape)) for name, debt in debts.items()])
    group.agree(_exchange.announce(group, "all_reduce", 0, torch.float32, "sum", Options(None), layout))
    for debt in debts.values():
        group.all_reduce(debt).wait()


@contextmanager
def _averaged_by_torch(group: Group, spans: Sequence[torch.Tensor], options: Options) -> Iterator[Callable[[], object]]:
    """Parts of a bucket that torch averages, at the same time as the rest is exchanged.

    They lie in the middle of what the exchange takes as one. So they are zeros there meanwhile, and nothing else needs
    to be copied. What this yields waits for them.
    """
    if not spans:
        yield lambda: None
        return
    before = torch.cat(list(spans))
    # 16 bits are few for a sum; without a codec gradients go as they are.
    wide = before.dtype if options.dtype is None else torch.promote_types(before.dtype, torch.float32)
    total = before.to(wide, copy=True)
    work = group.all_reduce(total)
    for span in spans:
        span.zero_()
    try:
        yield work.wait
        work.wait()
    except BaseException:
        _scatter(before, spans)
        raise
    _scatter(total.div_(group.world_size), spans)


def _scatter(flat: torch.Tensor, spans: Sequence[torch.Tensor]) -> None:
    for span, values in zip(spans, torch.split(flat, [span.numel() for span in spans]), strict=True):
        span.copy_(values)


def _first(done: Future[list[torch.Tensor]]) -> torch.Tensor:
    return done.value()[0]


def quantize_hook(state: QuantizeState, bucket: GradBucket) -> Future[torch.Tensor]:
    """Averages a bucket of gradients over the ranks, quantized: for ``register_comm_hook`` of DDP.

    Args:
        state: for this model alone.
        bucket: from DDP.

    Returns:
        A future of the bucket. Where an exchange failed, ``backward`` raises, on every rank that it concerns.
    """
    return state._submit(bucket)
