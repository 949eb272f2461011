"""The benchmark of links: its parts, without networks. ``scripts/links --quick`` runs it as a whole."""

from __future__ import annotations

import io
import json
import math
import os
import socket
import struct
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest
import torch

from piquant_bench import all_reduces, link_bars, links, network, pictures, ranks, report, switch, wire
from piquant_bench.links import LinkTime, Point

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def row(method: str, rate: int | None = 10**9, **others: Any) -> dict[str, Any]:
    """What a perfect method would show."""
    given = {"ranks": 2, "delay": 0.0, "rate": rate, "elements": 1 << 24, "method": method, "cores": 2} | others
    model = wire.bytes_sent(method, given["ranks"], given["elements"])
    seconds = model * 8 / (rate or 10**11)
    floats = wire.bytes_sent("float32", given["ranks"], given["elements"]) * 8 / (rate or 10**11)
    measured = {
        "delayed_by": "nothing", "repetitions": 3, "seconds": seconds, "ratio": seconds / floats, "noisy": False,
        "sent": model, "model": model, "ideal": seconds if rate else None, "share": 1.0 if rate else None, "error": 0.0,
    }  # fmt: skip
    return asdict(LinkTime(**(measured | given)))


PERFECT = [row(method, rate) for rate in (10**8, 10**9, None) for method in wire.METHODS]


@pytest.mark.parametrize(
    ("text", "rate"), [("100mbit", 10**8), ("2.5gbit", 25 * 10**8), ("1500kbit", 15 * 10**5), ("none", None)]
)
def test_rates(text: str, rate: int | None) -> None:
    assert network.rate_of(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "100", "1tbit", "10kbit", "1000gbit", "-1gbit", "nan"])
def test_wrong_rates(text: str) -> None:
    with pytest.raises(ValueError, match=f'a rate must be .* got "{text}"'):
        network.rate_of(text)


def test_a_queue_holds_whole_segments_and_what_timers_miss() -> None:
    assert network.limit(None) == ["noqueue"]
    assert network.limit(10**8) == ["tbf", "rate", "100000000bit", "burst", "81920", "latency", "50ms"]
    assert int(network.limit(10**10)[4]) == 250_000


def test_bytes_of_each_method() -> None:
    """What interfaces counted with 25.2 million elements, to a percent."""
    for ranks_, counted in (
        (2, {"float32": 100.2e6, "int8": 25.1e6, "int4": 12.5e6, "torch hook": 25.1e6}),
        (4, {"float32": 150.4e6, "int8": 37.6e6, "int4": 18.8e6, "torch hook": 75.2e6}),
    ):
        for method, sent in counted.items():
            assert wire.bytes_sent(method, ranks_, 25_060_000) == pytest.approx(sent, rel=0.035)
    assert wire.bytes_sent("int8", 8, 256) == 2 * 7 / 8 * (256 + 4)
    assert wire.bytes_sent("bfloat16", 2, 100) == 200


def test_the_slower_of_wire_and_processors_counts() -> None:
    assert wire.predicted(1e6, 10**7, 0.1, 0.5) == pytest.approx(0.8 + 0.2)
    assert wire.predicted(1e6, 10**7, 0.0, 0.9) == 0.9
    assert wire.predicted(1e6, None, 0.0, 0.3) == 0.3


def test_gains_end_where_processors_set_the_pace() -> None:
    rows = [row("float32", None, seconds=0.02), row("int8", None, seconds=0.01)]
    slow, fast = wire.gains("int8", rows, [10**7, 10**12])
    assert slow == pytest.approx(4 / (1 + 4 / 256))
    assert fast == pytest.approx(2)
    assert wire.gains("int4", [*rows, row("int4")], [10**12]) == [], "not measured without a limit"


def frame(to: int, length: int = 100, segment: int = 0, version: int = 4) -> bytes:
    """A packet for a host, as a TUN device gives it, that would be cut into segments."""
    headers = 52 if segment else 0
    prefix = struct.pack("=BBHHHH", 0, 1 if segment else 0, headers, segment, 0, 0)
    return prefix + bytes([version << 4]) + bytes(18) + bytes([to + 1]) + bytes(length - 20)


def test_the_switch_reads_packets() -> None:
    assert switch.destination(frame(3)) == 3
    assert switch.destination(frame(3, version=6)) is None
    assert switch.wire_bytes(frame(0, 100)) == 114
    assert switch.wire_bytes(frame(0, 52 + 3000, segment=1000)) == 3000 + 3 * (52 + 14)
    assert switch.wire_bytes(frame(0, 52 + 3001, segment=1000)) == 3001 + 4 * (52 + 14)


def test_a_port_holds_packets_back() -> None:
    port = switch.Port()
    assert port.due == math.inf
    first, second = frame(0, 986), frame(0, 986)
    port.send(first, now=5.0, one_way=1.0, rate=8e3)  # a second each
    port.send(second, now=5.0, one_way=1.0, rate=8e3)
    assert port.due == 6.0
    assert port.arrive() is first
    assert port.due == 7.0
    assert port.arrive() is second
    port.send(first, now=20.0, one_way=1.0, rate=0)
    assert port.due == 21.0


def test_the_switch_carries_packets_to_their_port() -> None:
    """Sockets that keep the bounds of messages stand for TUN devices."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(3)]
    for inner, outer in pairs:
        inner.setblocking(False)
        outer.settimeout(20)
    orders, giver = os.pipe()
    one_way = 0.02
    thread = threading.Thread(target=switch.run, args=([inner.fileno() for inner, _ in pairs], orders, one_way))
    thread.start()
    outers = [outer for _, outer in pairs]
    begin = time.monotonic()
    outers[0].send(frame(7))  # there is no such host
    outers[0].send(frame(2, 200))
    outers[1].send(frame(2, 300))
    os.write(giver, b"1000000\n")
    outers[2].send(frame(0, 400))
    assert sorted(len(outers[2].recv(1000)) for _ in range(2)) == [210, 310]
    assert outers[0].recv(1000) == frame(0, 400)
    assert time.monotonic() - begin >= one_way
    os.close(giver)
    thread.join(20)
    assert not thread.is_alive()
    os.close(orders)
    for pair in pairs:
        for end in pair:
            end.close()


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []

    def command(*words: str, host: int | None = None) -> None:
        said.append(" ".join(words if host is None else (f"[{host}]", *words)))

    monkeypatch.setattr(network, "command", command)
    return said


def test_links_are_limited_both_ways(commands: list[str]) -> None:
    net = network.Network([11, 12, 13], 0)
    assert net.delayed_by == "nothing"
    assert "ip link add port12 type veth peer name eth0 netns 12" in commands
    assert "[13] ip address add 10.0.0.3/24 dev eth0" in commands
    commands.clear()
    net.limit(10**9)
    queue = "tbf rate 1000000000bit burst 81920 latency 50ms"
    ends = [f"[{host}] tc qdisc replace dev eth0 root {queue}" for host in (11, 12, 13)]
    assert sorted(commands) == sorted([*ends, *(f"tc qdisc replace dev port{h} root {queue}" for h in (11, 12, 13))])
    commands.clear()
    net.close()
    assert commands == ["ip link del bridge"]


def test_netem_delays_what_hosts_send(commands: list[str]) -> None:
    net = network.Network([11, 12], 20.0)  # of a kernel that has it: no command fails
    assert net.delayed_by == "netem"
    commands.clear()
    net.limit(None)
    assert commands[:2] == [
        "[11] tc qdisc replace dev eth0 root handle 1: netem delay 10.0ms limit 100000",
        "[11] tc qdisc replace dev eth0 parent 1:1 pfifo",
    ]
    assert commands[2] == "tc qdisc replace dev port11 root noqueue"


def test_a_command_that_fails_is_named() -> None:
    with pytest.raises(network.LinkError, match=r"`cat /nowhere/at/all` failed: .*No such file"):
        network.command("cat", "/nowhere/at/all")


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_a_rank_answers_orders(tmp_path: Path) -> None:
    who = {"rank": 0, "ranks": 1, "store": str(tmp_path / "store"), "timeout": 20}
    orders: list[dict[str, Any]] = [who]
    for method in wire.METHODS:
        orders += [{"prepare": 5000}, {"call": method}]
    answers = io.StringIO()
    all_reduces.serve(io.StringIO("".join(json.dumps(order) + "\n" for order in orders)), answers)
    assert tuple(all_reduces.METHODS) == wire.METHODS
    begun, joined, *results = map(json.loads, answers.getvalue().splitlines())
    assert (begun, joined) == ("begun", "joined")
    assert results[::2] == [None] * len(wire.METHODS)
    for method, result in zip(wire.METHODS, results[1::2], strict=True):
        assert set(result) == {"seconds", "sent", "error"}
        assert result["error"] <= link_bars.MOST_ERROR.get(method, 0)


def test_bytes_are_those_of_all_interfaces(tmp_path: Path) -> None:
    table = tmp_path / "dev"
    table.write_text(
        "Inter-|   Receive  |  Transmit\n face |bytes ... |bytes ...\n"
        "    lo:       1 2 3 0 0 0 0 0     1000 9 0 0 0 0 0 0\n"
        "  eth0:16782934 2 3 0 0 0 0 0 16805004 9 0 0 0 0 0 0\n"
    )
    assert all_reduces.sent_bytes(table) == 16806004


class FakeRanks:
    """Two ranks of which the second is slower, and float32 takes four times as long."""

    def __init__(self) -> None:
        self.orders: list[dict[str, Any]] = []

    def all(self, timeout: float, **order: Any) -> list[Any]:
        assert timeout == 20
        self.orders.append(order)
        seconds = 4.0 if order.get("call") == "float32" else 1.0
        return [{"seconds": seconds * slower, "sent": 100 * slower, "error": 0.5} for slower in (1, 1.5)]


def test_methods_take_turns_and_the_slowest_rank_counts() -> None:
    fake = FakeRanks()
    point = Point(2, 0, 10**9, 1 << 20)
    turns = links.take_turns(fake, point, ["float32", "int8"], 3, 60, 20)
    prepared = [order["prepare"] for order in fake.orders[::2]]
    assert prepared == [1 << 16] * 2 + [1 << 20] * 6
    assert [order["call"] for order in fake.orders[1::2]] == ["float32", "int8"] * 4
    result = links.link_time(point, "nothing", "int8", turns)
    assert (result.repetitions, result.seconds, result.ratio, result.sent, result.error) == (3, 1.5, 0.25, 150, 0.5)
    assert result.share == pytest.approx(result.model * 8 / 10**9 / 1.5)
    assert len(links.take_turns(fake, point, ["float32"], 50, 0, 20)["float32"]) == 1


def test_patience_outlasts_slow_links() -> None:
    slow = links.patience(Point(4, 200, 10**8, 25 << 20))
    assert slow > 10 * wire.bytes_sent("float32", 4, 25 << 20) * 8 / 10**8
    assert links.patience(Point(2, 0, None, 4096)) < 60


def test_a_rank_that_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "COMMAND", ("sh", "-c", "echo 1; exit 3"))
    group = ranks.Ranks(2)
    with pytest.raises(network.LinkError, match=r"rank 0 has ended|a rank has ended"):
        group.all(20, prepare=1)
    group.kill()


def test_a_rank_that_is_silent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ranks, "COMMAND", ("sh", "-c", 'echo 1; read -r line; echo "$line"; read -r line; read -r line')
    )
    group = ranks.Ranks(2)
    assert group.all(20, prepare=7) == [{"prepare": 7}] * 2
    with pytest.raises(network.LinkError, match="did not answer within 0 s"):
        group.all(0, prepare=8)
    group.end()
    group.kill()


def failures(rows: Sequence[dict[str, Any]], tolerance: float = 0.0) -> list[str]:
    return [verdict.name for verdict in link_bars.judge(list(rows), tolerance) if not verdict.passed]


def test_a_perfect_method_meets_all_bars() -> None:
    assert failures(PERFECT) == []
    said = "\n".join(map(str, link_bars.judge(PERFECT)))
    assert "ok    int8, 1 Gbit/s, 2 ranks: share of the wire: 1.00 (at least 0.9)" in said
    assert "int4, 100 Mbit/s, 2 ranks: times as fast as int8: 1.97 (at least 1.7)" in said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (row("int8", share=0.89), "share of the wire"),
        (row("int4", seconds=0.1), "times as fast as int8"),
        (row("int8", ratio=1.01), "time / float32's"),
        (row("int4", sent=1.03 * row("int4")["model"]), "bytes / model"),
        (row("torch hook", sent=0.97 * row("torch hook")["model"]), "bytes / model"),
        (row("int8", error=0.05), "error"),
        (row("bfloat16", error=0.05), "error"),
    ],
)
def test_each_bar_can_be_missed(wrong: dict[str, Any], said: str) -> None:
    others = [row(method) for method in wire.METHODS if method != wrong["method"]]
    (name,) = failures([*others, wrong])
    assert name == f"{wrong['method']}, 1 Gbit/s, 2 ranks: {said}"


def test_bars_of_the_wire_are_for_ranks_with_a_core_each() -> None:
    slow = {"share": 0.5, "seconds": 9.0}
    assert failures([row("int8", ranks=4, **slow), row("int8", delay=20.0, **slow), row("int8", 10**10, **slow)]) == []
    assert failures([row("int8", share=0.82)], tolerance=0.1) == []
    assert failures([row("int8", sent=10, elements=4096)]) == [], "headers count"


def test_the_report_has_all_figures() -> None:
    text = report.links_text(links.machine.describe() | {"links": [*PERFECT, row("int8", delay=20.0, ratio=0.77)]})
    assert "1 Gbit/s, 2 ranks, 16,777,216 elements, median of 3\n" in text
    assert "1 Gbit/s, round trip 20 ms, 2 ranks, 16,777,216 elements, median of 3, delayed by nothing" in text
    assert "not limited, 2 ranks" in text
    assert "136 ms" in text  # int8 at 1 Gbit/s
    assert "0.77" in text


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_chart(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"links.{suffix}"
    pictures.draw_links([*PERFECT, *(row(method, ranks=4) for method in wire.METHODS)], path)
    assert path.read_bytes().startswith(b"\x89PNG" if suffix == "png" else b"<?xml")


def test_figures_are_added_to_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def measure(points: Sequence[Point], methods: Sequence[str], *_: Any) -> list[LinkTime]:
        asked.extend(points)
        return [LinkTime(**row(m, p.rate, ranks=p.ranks, elements=p.elements)) for p in points for m in methods]

    monkeypatch.setattr(links, "measure", measure)
    path, picture = tmp_path / "links.json", tmp_path / "links.svg"
    options = ["--ranks", "2", "--elements", "65536", "--json", str(path), "--plot", str(picture)]
    assert links.main([*options, "--rates", "none,1gbit", "--methods", "int8"]) == 0
    assert asked == [Point(2, 0.0, None, 65536), Point(2, 0.0, 10**9, 65536)]
    assert links.main([*options, "--rates", "1gbit,100mbit"]) == 0
    found = [(line["rate"], line["method"]) for line in json.loads(path.read_text())["links"]]
    some = ["float32", "int8"]
    assert found == [(rate, m) for rate in (10**8, 10**9) for m in wire.METHODS] + [(None, m) for m in some]
    assert picture.exists()
    assert "bars: 18 of 18 met\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--rates", "1gbit,fast", "a rate must be"),
        ("--delays", "-1", "must be a number from 0 to 1000"),
        ("--ranks", "1", "must be a number from 2 to 16"),
        ("--ranks", "two", "must be a number from 2 to 16"),
        ("--elements", "100", "must be a number from 4096"),
        ("--methods", "int3", "a method must be one of"),
    ],
)
def test_wrong_options(option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        links.main([option, value])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_network_that_fails_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def measure(*_: Any) -> list[LinkTime]:
        raise network.LinkError("rank 1 has ended")

    monkeypatch.setattr(links, "measure", measure)
    assert links.main(["--rates", "none"]) == 1
    assert "scripts/links: rank 1 has ended" in capsys.readouterr().err


@pytest.mark.parametrize(("shares", "code"), [([1.0], 0), ([0.5, 0.9], 0), ([0.5, 0.6, 0.7], 1)])
def test_quick_forgives_noise(
    shares: list[float], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = list(shares)

    def measure(points: Sequence[Point], methods: Sequence[str], *_: Any) -> list[LinkTime]:
        share = left.pop(0)
        return [LinkTime(**row(m, p.rate) | {"share": p.rate and share}) for p in points for m in methods]

    monkeypatch.setattr(links, "measure", measure)
    assert links.main(["--quick"]) == code
    assert left == []
    said = capsys.readouterr().out
    assert said.count("FAIL  int8, 100 Mbit/s, 2 ranks: share of the wire: 0.") == len(shares) - 1 + code
