"""Plans, and messages byte by byte: what is written once, of numbers alone."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
import torch

import exchange_model
import model
from exchange_model import Case
from piquant.distributed._codec import CpuCodec
from piquant.distributed._plan import (
    Options,
    disagreement,
    layout_of,
    make_plan,
    mix,
    segment_bytes_for,
    shorter_segments,
)


@pytest.mark.parametrize("kind", ["all_reduce", "reduce_scatter", "all_gather"])
def test_segments_are_all_of_the_elements(kind: str) -> None:
    for n, world, block, segment_bytes in itertools.product(
        (0, 1, 255, 256, 1000, 70_001), (1, 2, 3, 7), (1, 7, 256), (1, 100, 1 << 20)
    ):
        if kind != "all_reduce" and n % world:
            continue
        plan = make_plan(kind, n, world, "float32", "sum", Options("int4", block, True, segment_bytes))
        at = 0
        for rank in range(world):
            part = plan.part(rank)
            assert part.begin == at
            for k in range(plan.segments):
                segment = plan.segment(rank, k)
                assert segment.begin == at
                assert segment.length <= min(plan.segment_length, plan.longest(k))
                at = segment.end
            assert part.end == at
            if kind == "all_reduce":
                assert part.begin % block == 0 or part.length == 0
        assert at == n
        assert plan.segment_length % block == 0
        assert plan.segment_length == block or (plan.segment_length - block) * 4 // 8 <= segment_bytes


def test_plans_differ_in_everything() -> None:
    plans = [
        make_plan("all_reduce", 5000, 2, "float32", "sum", Options("int8", 256, True, 1000)),
        make_plan("all_gather", 5000, 2, "float32", "sum", Options("int8", 256, True, 1000)),
        make_plan("all_reduce", 5001, 2, "float32", "sum", Options("int8", 256, True, 1000)),
        make_plan("all_reduce", 5000, 2, "bfloat16", "sum", Options("int8", 256, True, 1000)),
        make_plan("all_reduce", 5000, 2, "float32", "avg", Options("int8", 256, True, 1000)),
        make_plan("all_reduce", 5000, 2, "float32", "sum", Options("int4", 256, True, 1000)),
        make_plan("all_reduce", 5000, 2, "float32", "sum", Options(None, 256, True, 1000)),
        make_plan("all_reduce", 5000, 2, "float32", "sum", Options("int8", 64, True, 1000)),
        make_plan("all_reduce", 5000, 2, "float32", "sum", Options("int8", 256, False, 1000)),
        make_plan("all_reduce", 5000, 2, "float32", "sum", Options("int8", 256, True, 2000)),
        make_plan("all_reduce", 5000, 2, "float32", "sum", Options("int8", 256, True, 1000), (2, 5)),
    ]
    assert len({plan.digest for plan in plans}) == len(plans)
    assert all(disagreement([plans[0].record, other.record]) is not None for other in plans[1:])
    assert disagreement([plans[0].record] * 3) is None
    assert plans[0].digest == 9784189702030041483, "part of the wire format, version 1"


def test_words_of_a_disagreement() -> None:
    records: list[dict[str, int | str]] = [{"n": 1 + (rank == 3), "op": "sum"} for rank in range(12)]
    assert disagreement(records) == "n: 1 on ranks 0, 1, 2, 4, 5, 6, 7, 8 and 3 more, 2 on rank 3"


def test_layouts_differ() -> None:
    layouts = [[("float32", (2, 3))], [("float32", (3, 2))], [("bfloat16", (2, 3))], [("float32", (6,))] * 2]
    assert len({layout_of(layout) for layout in layouts}) == 4


def test_segments_by_round_trips() -> None:
    assert [segment_bytes_for(seconds) for seconds in (0, 1e-4, 0.02, 10)] == [262144, 262144, 800_000, 8388608]
    parts = (0, 1 << 20, 3_200_000, 1 << 30)
    assert [shorter_segments(8388608, n) for n in parts] == [262144, 524_288, 1_600_000, 8388608]


def test_seeds_are_mixed() -> None:
    words = [
        (seed, call, rank, phase)
        for seed in (0, 1, 2**64 - 1)
        for call in range(9)
        for rank in range(9)
        for phase in (0, 1)
    ]
    mixed = [mix(*word) for word in words]
    assert len(set(mixed)) == len(words)
    assert mixed == [exchange_model.mix(*word) for word in words]


@pytest.mark.parametrize("mode", ["nearest", "stochastic"])
@pytest.mark.parametrize("real", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_bytes_of_messages(bits: int, real: str, mode: str) -> None:
    for n, block in ((1000, 256), (1, 256), (0, 256), (513, 7)):
        case = Case(n=n, real=real, bits=bits, block=block, mode=mode, data="wild")
        x = exchange_model.data(case, 1)
        scales = exchange_model.scales(case, x)
        each = np.repeat(scales, block)[:n]
        codes = model.pack(exchange_model.codes(case, x, each, 99, 12345), f"int{bits}")
        head = struct.pack("<QQ", 2**64 - 3, 77) + scales.astype("<f4").tobytes()
        expected = head + bytes(-len(head) % 16) + codes.tobytes()

        options = Options(f"int{bits}", block, mode == "stochastic")
        plan = make_plan("all_reduce", n, 1, real, "sum", options)
        assert plan.message_bytes(n) == len(expected)
        codec = CpuCodec(options, None)
        message = codec.empty(len(expected)).fill_(0x5A)
        source = (
            torch.from_numpy(x.view(np.int16).copy()).view(torch.bfloat16)
            if real == "bfloat16"
            else torch.from_numpy(x)
        )
        codec.encode(source, message, (2**64 - 3, 77), 99, 12345)
        assert message.numpy().tobytes() == expected
        assert codec.headers([message]) == [(2**64 - 3, 77)]
        out = torch.ones(n, dtype=getattr(torch, case.wide))
        codec.decode(message, out, True)
        arrives = model.dequantize(exchange_model.codes(case, x, each, 99, 12345), each, 0, f"int{bits}", case.wide)
        assert np.array_equal(out.numpy(), arrives + arrives.dtype.type(1), equal_nan=True)
