"""The benchmark's parts at tiny sizes: that they run and say all they should. Nothing here depends on time."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import piquant
from piquant.__main__ import main
from piquant_bench import (
    check,
    command,
    costs,
    curve,
    efficiency,
    inside_program,
    libraries,
    machine,
    pictures,
    report,
    timing,
)
from piquant_bench._native import Call, Session
from piquant_bench.cells import FLOATS, TARGETS, Timing
from tiny import TINY, VECTORS


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return command.measure(TINY, VECTORS[:1], None)


def test_results_are_complete(results: dict[str, Any]) -> None:
    read = json.loads(json.dumps(results))
    assert {"cpu", "cores", "caches", "isa", "kernel", "memory_bytes", "threads"} <= set(read["machine"])
    assert read["versions"]["piquant"] == piquant.__version__
    assert "commit" in read
    assert read["effort"]["large"] == TINY.large
    cells = len(FLOATS) * len(TARGETS)
    assert len(read["efficiency"]) == 2 * (4 * cells + len(FLOATS))
    assert len(read["stochastic"]) == 2 * cells
    assert {row["elements"] for row in read["peers"]} == {TINY.large, TINY.medium, TINY.small}
    assert {row["task"] for row in read["peers"]} == {str(task.cell) for task in libraries.TASKS}
    present = {row["library"] for row in read["peers"]}
    assert {libraries.OURS, libraries.MEMORY, "numpy expression"} <= present
    assert present | set(read["absent_peers"]) == set(libraries.LIBRARIES)
    assert len({row["group"] for row in read["small_calls"]}) == 4
    assert {row["elements"] for row in read["curve"]} == {1 << power for power in range(TINY.curve_top + 1)}


def test_calls_inside_a_program(results: dict[str, Any]) -> None:
    rows = results["inside_program"]
    tasks = {row["task"] for row in rows}
    sizes = {row["elements"] for row in rows}
    assert len(tasks) == 3
    assert sizes == {TINY.medium, 16 * TINY.medium, 64 * TINY.medium, TINY.large}
    assert len(rows) == len(tasks) * len(sizes) * len(inside_program.STATES) * 2
    assert all(row["ratio"] == 1 for row in rows if row["library"] == inside_program.TORCH)
    text = report.text(results)
    assert all(f"Inside a torch program: {task}" in text for task in tasks)


def test_without_torch_the_rest_is_shown(
    monkeypatch: pytest.MonkeyPatch, results: dict[str, Any], tmp_path: Path
) -> None:
    monkeypatch.setattr(inside_program, "_has_torch", lambda: False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert inside_program.measure(TINY) == []
    assert inside_program.measure_busy(TINY) == []
    without = results | {"inside_program": [], "beside_busy": []}
    assert "Inside a torch program" not in report.text(without)
    assert "inside-program.svg" not in pictures.draw(without, tmp_path)


def test_beside_a_busy_process(results: dict[str, Any]) -> None:
    rows = results["beside_busy"]
    assert rows[0]["call"] == "1 thread"
    assert rows[0]["ratio"] == 1
    assert all(row["slowest_tenth"] >= row["seconds"] > 0 for row in rows)


def test_costs_are_predicted(results: dict[str, Any]) -> None:
    counts = {row["threads"] for row in results["predictions"]}
    assert counts == {piquant.get_num_threads(), *costs.PREDICTED}
    measured = {row["threads"] for row in results["predictions"] if row["measured"] is not None}
    assert measured == {piquant.get_num_threads()}
    assert "Costs of float32 -> uint8" in report.text(results)


def test_the_model_of_costs() -> None:
    c = costs.Constants(call=1e-6, hand_off=1e-6, wake=1e-5, arrival=5e-5, cached=5e10, rested=4e10, memory=1e10)
    assert costs.predict(c, 1000, 64, "loop") == pytest.approx(1e-6 + 1000 / 5e10)
    assert costs.predict(c, 1000, 64, "rest") == pytest.approx(1e-6 + 1000 / 4e10)
    assert costs.predict(c, 1 << 20, 64, "loop") == pytest.approx(8e-6 + (1 << 20) / 8 / 5e10), "no more than pay"
    # One sleeper: the caller works alone until it arrives, then both do.
    traffic = 4 << 20
    alone = c.arrival * c.rested
    assert costs.predict(c, traffic, 2, "rest") == pytest.approx(
        c.call + c.wake + c.arrival + (traffic - alone) / 2 / c.rested
    )
    for traffic in (1 << 24, 1 << 28, 1 << 32):
        rested = [costs.predict(c, traffic, threads, "rest") for threads in (1, 2, 4, 8)]
        assert rested == sorted(rested, reverse=True)
        assert all(costs.predict(c, traffic, t, "rest") >= traffic / (t * c.cached) for t in (1, 2, 16, 64, 360)), (
            "no thread is faster than it is"
        )


def test_every_number_is_positive_and_has_a_ratio(results: dict[str, Any]) -> None:
    ratios = {
        "efficiency": "efficiency",
        "stochastic": "ratio",
        "peers": "ratio",
        "small_calls": "ratio",
        "inside_program": "ratio",
    }
    for section, ratio in {**ratios, "curve": "efficiency"}.items():
        for row in results[section]:
            assert row[ratio] > 0
            assert all(value > 0 for name, value in row.items() if name.endswith(("seconds", "ns_per_element")))


def test_report_has_every_section(results: dict[str, Any]) -> None:
    text = report.text(results)
    for heading in ("Efficiency", "stochastic rounding", "time / ours", "absent: ", "of idleness", "ns per element"):
        assert heading in text
    for name in {row["library"] for row in results["peers"]}:
        assert name in text


def test_command_writes_results_and_pictures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, results: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "measure", lambda *_: results)
    assert main(["bench", "--quick", "--output", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "bench.json").read_text())["versions"] == results["versions"]
    kinds = ("quantize", "dequantize", "curve", "inside-program", f"efficiency-{VECTORS[0]}")
    names = [f"{kind}.{suffix}" for kind in kinds for suffix in ("png", "svg")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(["bench.json", *names])
    said = capsys.readouterr().out
    assert all(name in said for name in ["bench.json", *names])
    for name in names:
        start = (tmp_path / "out" / name).read_bytes()[:16]
        assert start.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")


def test_command_rejects_an_unknown_isa(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--isa", "mmx"]) == 2
    assert "--isa must be one of" in capsys.readouterr().err


def test_command_needs_a_directory_before_it_measures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "measure", lambda *_: pytest.fail("measured"))
    (tmp_path / "file").touch()
    assert main(["bench", "--output", str(tmp_path / "file")]) == 2
    assert "--output must be a directory" in capsys.readouterr().err


@pytest.mark.parametrize("busy", [False, True])
def test_command_warns_of_load(busy: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(machine, "load_average", lambda: (os.cpu_count() or 1) + (0.5 if busy else 0.0))
    monkeypatch.setattr(check, "checks", lambda: [fake([1.0], least=0.5)[0]])
    assert main(["bench", "--check"]) == 0
    assert ("exceeds the" in capsys.readouterr().err) == busy


@pytest.mark.parametrize("missing", ["sched_getaffinity", "sched_setaffinity", "getloadavg", "sysconf"])
def test_systems_that_lack_a_function(
    missing: str, monkeypatch: pytest.MonkeyPatch, results: dict[str, Any], tmp_path: Path
) -> None:
    monkeypatch.setattr(check, "checks", lambda: [fake([1.0], least=0.5)[0]])
    monkeypatch.setattr(machine, "_lines", lambda _: [])  # nor is there /proc
    monkeypatch.delattr(os, missing)
    assert main(["bench", "--check"]) == 0
    monkeypatch.setattr(command, "measure", lambda *_: results | machine.describe())
    monkeypatch.setattr(pictures, "draw", lambda *_: [])
    assert main(["bench", "--output", str(tmp_path)]) == 0
    read = json.loads((tmp_path / "bench.json").read_text())["machine"]
    assert 1 <= read["usable_cores"] <= read["cores"]
    assert (read["load_average"] is None) == (missing == "getloadavg")
    assert (read["memory_bytes"] is None) == (missing == "sysconf")
    assert (machine.available_memory() is None) == (missing == "sysconf")
    if missing == "sysconf":
        assert curve.measure(dataclasses.replace(TINY, curve_top=0))
    if missing == "sched_setaffinity":
        assert inside_program.measure_busy(TINY) == []


def test_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "piquant_bench", "--isa", "mmx"], capture_output=True, check=False, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "piquant bench: --isa must be one of" in done.stderr


def test_what_is_imported_is_what_is_measured() -> None:
    maps = Path("/proc/self/maps").read_text()
    assert len({line.split()[-1] for line in maps.splitlines() if "libpiquant." in line}) == 1


def test_versions_agree() -> None:
    assert importlib.metadata.version("pypiquant-bench") == piquant.__version__
    assert f"pypiquant=={piquant.__version__}" in (importlib.metadata.requires("pypiquant-bench") or [])


def test_session_takes_what_the_library_chooses() -> None:
    default, narrow = Session(), Session(1, VECTORS[-1])
    assert (default.threads, default.isa) == (piquant.get_num_threads(), piquant.isa())
    assert (narrow.threads, narrow.isa) == (1, VECTORS[-1])


def test_session_measures_the_operation() -> None:
    x = np.linspace(-3, 3, 1000, dtype=np.float32)
    codes, out = np.zeros(1000, np.uint8), np.ones(1000, np.float32)
    reads, holds, writes = (array.ctypes.data for array in (x, codes, out))
    session = Session(1)
    calls = {
        "quantize": Call("quantize", reads, "float32", holds, "uint8", 1000, 0.05, 128),
        "add": Call("add", holds, "uint8", writes, "float32", 1000, 0.05, 128),
        "params": Call("params", reads, "float32", 0, "uint8", 1000),
    }
    for call in calls.values():
        assert all(len(measure(call, 3)) == 3 for measure in (session.measure_traffic, session.measure))
        codes[:], out[:] = 77, 1
    session.measure(calls["quantize"], 1)
    expected = piquant.numpy.quantize(x, scale=0.05, zero_point=128, dtype="uint8")
    np.testing.assert_array_equal(codes, expected)
    session.measure(calls["add"], 1)  # which runs it once before the measurement
    y = piquant.numpy.dequantize(codes, scale=0.05, zero_point=128, dtype=np.float32)
    np.testing.assert_array_equal(out, 1 + y + y)
    session.measure(calls["add"], 2, in_a_row=3)
    np.testing.assert_allclose(out, 1 + 9 * y, rtol=1e-5)
    session.move_traffic(calls["quantize"])
    assert not np.array_equal(codes, expected)


def test_session_rejects_what_there_is_not() -> None:
    with pytest.raises(ValueError, match="instruction set"):
        Session(1, "mmx")
    with pytest.raises(ValueError, match="num_threads"):
        Session(5000)
    with pytest.raises(ValueError, match="no operation is named multiply"):
        Call("multiply", 0, "float32", 0, "uint8", 0)
    with pytest.raises(ValueError, match="no dtype is named float8"):
        Call("quantize", 0, "float8", 0, "uint8", 0)
    for measure in (Session(1).measure, Session(1).measure_traffic):
        with pytest.raises(ValueError, match="NULL"):
            measure(Call("quantize", 0, "float32", 0, "uint8", 8), 1)


def test_halves_that_differ_are_noise() -> None:
    ones = [1.0] * 4
    assert not timing.is_noise([1.0], [2.0])
    assert not timing.is_noise([1.0, 1.0, 1.1, 1.1], ones)
    assert timing.is_noise([1.0, 1.0, 1.2, 1.2], ones)
    assert timing.is_noise([1.2, 1.2, 1.0, 1.0], ones)
    assert not timing.is_noise([1.0, 1.0, 9.0, 9.0], [2.0, 2.0, 18.0, 18.0])
    assert report.ratio_of({"ratio": 0.5, "noisy": True}) == "~0.50"
    assert report.ratio_of({"ratio": 0.5, "noisy": False}) == "0.50"


@pytest.mark.parametrize("library", [name for name in libraries.LIBRARIES if name != libraries.MEMORY])
def test_libraries_do_the_same_task(library: str) -> None:
    """Codes may differ by one: not all break ties alike. A library that is absent is said to be, and why."""
    present, absent = libraries.open_all(libraries.Setup(threads=1, compilers=False), libraries.LIBRARIES)
    if library in absent:
        assert library not in present
        assert absent[library] != ""
        return
    data = libraries.Data(4096)
    calls = present[library](data)
    for task in (libraries.QUANTIZE, libraries.DEQUANTIZE):
        cell, scale, zero = task
        data.to_codes[:], data.to_floats[:] = 0, 0
        result = calls[task]()
        if result is None:
            result = data.packed(cell) if cell.reads_real else data.to_floats
        elif getattr(result, "is_quantized", False):
            result = result.int_repr()  # type: ignore[attr-defined]
        if cell.reads_real:
            expected = np.clip(np.rint(data.x / np.float32(scale)) + zero, 0, 255)
            assert np.abs(np.asarray(result).astype(int) - expected).max() <= 1
        else:
            expected = (data.codes.astype(np.float32) - zero) * np.float32(scale)
            np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-6)


def test_stochastic_ratios_compare_like_with_like() -> None:
    def row(operation: str, real: str, value: float) -> efficiency.Efficiency:
        return efficiency.Efficiency("avx2", 1, 64, operation, real, "uint8", 1.0, value, value, real == "float64", 1.0)

    rows = [row("quantize", "float32", 0.9), row("quantize", "float64", 0.5), row("stochastic", "float32", 0.3)]
    (ratio,) = efficiency.stochastic_ratios(rows)
    assert (ratio.real, ratio.ratio, ratio.noisy) == ("float32", pytest.approx(3.0), False)


def test_efficiency_is_that_of_a_turn() -> None:
    # From the middle of the third turn on, memory has half its speed.
    cell = Timing(kernels=(1.0, 1.0, 2.0, 2.0, 2.0), twins=(0.9, 0.9, 0.9, 1.8, 1.8))
    assert (cell.kernel, cell.twin) == (2.0, 0.9)
    assert cell.efficiency == 0.9


def test_cliffs_stand_out_from_both_neighbours() -> None:
    sizes = [1 << power for power in range(10, 18)]
    costs = [9.0, 1.0, 1.0, 1.0, 1.3, 1.0, 2.0, 2.0]
    assert [size for size, cliff in zip(sizes, curve.cliffs(sizes, costs), strict=True) if cliff] == [1 << 14]
    assert not any(curve.cliffs(sizes, [9.0 if size == 1 << 11 else 1.0 for size in sizes]))


def test_interleaved_takes_turns() -> None:
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    seconds = timing.interleaved(calls, rounds=2, pause=0)
    assert {name: len(samples) for name, samples in seconds.items()} == {"a": 2, "b": 2}
    turns = [name for name, before in zip(order[1:], order, strict=False) if name != before]
    assert turns == list("bababa")[: len(turns)]


def fake(values: list[float], **limits: float) -> tuple[check.Check, list[float]]:
    left = list(values)
    return check.Check("a kernel", lambda: left.pop(0), **limits), left


def test_check_passes_what_keeps_its_limit() -> None:
    one, left = fake([0.5, 0.0], least=0.4)
    (verdict,) = check.judge([one])
    assert verdict.passed
    assert verdict.values == (0.5,)
    assert left == [0.0]


def test_check_forgives_noise() -> None:
    one, _ = fake([9.0, 7.0, 5.0], most=6.0)
    (verdict,) = check.judge([one])
    assert verdict.passed
    assert verdict.values == (9.0, 7.0, 5.0)


@pytest.mark.parametrize(("values", "limits"), [([0.01] * 3, {"least": 0.2}), ([7.0] * 3, {"most": 6.0})])
def test_check_fails_what_stays_slow(
    values: list[float],
    limits: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    slow, left = fake(values, **limits)
    fine, _ = fake([1.0], least=0.5)
    monkeypatch.setattr(check, "checks", lambda: [fine, slow])
    assert main(["bench", "--check"]) == 1
    assert left == []
    assert "FAIL  a kernel" in capsys.readouterr().out


def test_check_covers_kernels_stochastic_rounding_torch_and_blocks() -> None:
    names = [one.name for one in check.checks()]
    assert len([name for name in names if name.startswith("efficiency: ")]) >= 24
    assert any(name.startswith("stochastic / nearest") for name in names)
    assert any(name.startswith("piquant / torch") for name in names)
    assert len([name for name in names if name.startswith("blocks / one scale")]) >= 24
