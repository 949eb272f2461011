"""The benchmark of scales for blocks at tiny sizes. Nothing here depends on time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import piquant.numpy
from piquant.__main__ import main
from piquant_bench import block_peers, blocks, command, libraries, pictures, report
from piquant_bench._native import Blocks, Call, Session
from piquant_bench.blocks import ALL, IN_CACHE, IN_MEMORY, SMALL_CALL, Bar, Cut
from tiny import TINY, VECTORS

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return command.measure_blocks(TINY, VECTORS[:1])


def test_results_are_complete(results: dict[str, Any]) -> None:
    read = json.loads(json.dumps(results))
    rows = read["blocks"]
    assert {row["isa"] for row in rows} == set(VECTORS[:1])
    whole = [(cell.title, str(cell.cut)) for cell in blocks.cells()]
    assert len(set(whole)) == len(whole)
    at = {
        place: [(row["title"], row["blocks"]) for row in rows if row["place"] == place]
        for place in (IN_MEMORY, IN_CACHE, SMALL_CALL)
    }
    assert at[IN_MEMORY] == whole
    assert at[IN_CACHE] == [(title, cut) for title, cut in whole if cut != "128 x 128"]
    assert set(at[SMALL_CALL]) == {(title, cut) for title, cut in whole if cut == "128" and "float16" not in title}
    assert {row["elements"] for row in rows} == {4096, 1024, 64}
    for row in rows:
        assert min(row["efficiency"], row["tensor_efficiency"], row["over_tensor"]) > 0
        assert (row["met"] is None) == (row["bar"] is None)


def test_peers_are_complete(results: dict[str, Any]) -> None:
    rows = results["block_peers"]
    assert {row["task"] for row in rows} == {str(task) for task in block_peers.TASKS}
    assert {row["elements"] for row in rows} == {4096, 64 * 1024}
    assert {row["library"] for row in rows} | set(results["absent_peers"]) == set(block_peers.LIBRARIES)
    for row in rows:
        ours = row["library"] == block_peers.OURS
        assert row["ratio"] == 1 if ours else row["ratio"] > 0
        dequantizes_many = row["elements"] == 4096 and "dynamic" not in row["task"]
        assert (row["bar"] is None) == (ours or dequantizes_many)


def test_report_shows_bars(results: dict[str, Any]) -> None:
    missed, met, without = ({"met": met, "bar": bar} for met, bar in ((False, 0.9), (True, 0.9), (None, None)))
    three = [row | change for row, change in zip(results["blocks"], (missed, met, without), strict=False)]
    text = report.blocks_text(results | {"blocks": three})
    assert "1 of 2 bars met" in text
    lines = [line for line in text.splitlines() if line.startswith(three[0]["title"])]
    assert [line.split()[-1] for line in lines[:2]] == ["MISSED", "met"]
    assert all("least 0.90" in line for line in lines[:2])
    assert "least" not in lines[2]
    for name in {row["library"] for row in results["block_peers"]} | set(results["absent_peers"]):
        assert name in text


def test_command_writes_results_and_pictures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, results: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "measure", lambda *_: pytest.fail("measured all else"))
    monkeypatch.setattr(command, "measure_blocks", lambda *_: results)
    assert main(["bench", "--blocks", "--quick", "--output", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "blocks.json").read_text())["versions"] == results["versions"]
    kinds = [f"blocks-{VECTORS[0]}", *["blocks-peers"] * any(r["ratio"] != 1 for r in results["block_peers"])]
    names = ["blocks.json", *(f"{kind}.{suffix}" for kind in kinds for suffix in ("png", "svg"))]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    said = capsys.readouterr().out
    assert all(f"wrote {tmp_path / name}" in said for name in names)


def test_without_peers_the_rest_is_drawn(results: dict[str, Any], tmp_path: Path) -> None:
    ours = [row for row in results["block_peers"] if row["library"] == block_peers.OURS]
    names = pictures.draw_blocks(results | {"block_peers": ours}, tmp_path)
    assert names == [f"blocks-{VECTORS[0]}.{suffix}" for suffix in ("png", "svg")]


def test_every_cell_has_a_bar_where_bars_are_set() -> None:
    for cell in blocks.cells():
        for isa in ("avx2", "avx512"):
            assert cell.bar.at(IN_MEMORY, isa) is not None
        assert cell.bar.at(IN_MEMORY, "sse42") is None
    bar = Bar(0.5, 0.6, 2.0, 3.0, small=1.6)
    assert [bar.at(place, "avx512") for place in (IN_MEMORY, IN_CACHE, SMALL_CALL)] == [0.6, 3.0, 1.6]
    assert bar.at(IN_CACHE, "avx2") == 2.0


def test_a_bar_is_met() -> None:
    assert blocks.meets(IN_MEMORY, 0.9, 0.9, 1.0, 9.0)
    assert not blocks.meets(IN_MEMORY, 0.9, 0.89, 1.0, 0.1)
    assert blocks.meets(IN_MEMORY, 0.9, 0.57, 0.6, 0.1), "0.95 of what one scale reaches"
    assert not blocks.meets(IN_MEMORY, 0.9, 0.56, 0.6, 0.1)
    assert blocks.meets(IN_CACHE, 1.4, 0.1, 1.0, 1.4)
    assert not blocks.meets(SMALL_CALL, 1.4, 1.0, 1.0, 1.5)


@pytest.mark.parametrize(
    ("cut", "matrix", "block_size", "count", "name"),
    [
        (Cut(1, 32), (4, 4096), (1, 32), 512, "32"),
        (Cut(1, ALL, 384), (43, 384), (1, 384), 43, "row of 384"),
        (Cut(ALL, 1, 384), (43, 384), (43, 1), 384, "384 channels"),
        (Cut(3, 100), (4, 4096), (3, 100), 82, "3 x 100"),
    ],
)
def test_cuts(cut: Cut, matrix: tuple[int, int], block_size: tuple[int, int], count: int, name: str) -> None:
    n = 4 * 4096 + 200
    assert (cut.matrix(n), cut.block_size(n), cut.count(n), str(cut)) == (matrix, block_size, count, name)
    assert cut.matrix(100) == (1, 100), "fewer than a row has"


class Matrix:
    """Floats, codes and parameters of blocks of 2 x 7 in a matrix of 5 x 20."""

    shape, block, grid = (5, 20), (2, 7), (3, 3)

    def __init__(self) -> None:
        self.x = np.linspace(-3, 4, 100, dtype=np.float32).reshape(self.shape)
        self.codes = np.zeros(self.shape, np.uint8)
        self.scale = np.linspace(0.02, 0.05, 9, dtype=np.float32).reshape(self.grid)
        self.zero_point = np.arange(100, 109, dtype=np.uint8).reshape(self.grid)

    def call(self, operation: str, *, symmetric: bool = False, out: NDArray[Any] | None = None) -> Call:
        zero_point = 0 if symmetric else self.zero_point.ctypes.data
        cut = Blocks(self.shape, self.block, self.scale.ctypes.data, zero_point)
        reads, into = (self.x, self.codes) if out is None else (self.codes, out)
        address = 0 if operation == "params" else into.ctypes.data
        types = ("uint8", "float32") if out is not None else ("float32", "uint8")
        return Call(operation, reads.ctypes.data, types[0], address, types[1], 100, blocks=cut)

    def each(self) -> Any:
        """The index of each block, and where its elements are."""
        for i, j in np.ndindex(self.grid):
            yield (i, j), (slice(2 * i, 2 * i + 2), slice(7 * j, 7 * j + 7))


def test_session_calls_with_blocks() -> None:
    m, session = Matrix(), Session(1)
    session.run(m.call("quantize"))
    for b, part in m.each():
        given = {"scale": float(m.scale[b]), "zero_point": int(m.zero_point[b])}
        np.testing.assert_array_equal(m.codes[part], piquant.numpy.quantize(m.x[part], **given, dtype="uint8"))
    out = np.ones(m.shape, np.float32)
    scale, zero = (a.repeat(2, 0).repeat(7, 1)[:5, :20].astype(np.float32) for a in (m.scale, m.zero_point))
    y = (m.codes - zero) * scale
    session.measure(m.call("add", out=out), 2)  # which runs it once before the measurement
    np.testing.assert_allclose(out, 1 + 3 * y, rtol=1e-5)
    session.run(m.call("dequantize", out=out))
    np.testing.assert_array_equal(out, y)


@pytest.mark.parametrize("symmetric", [False, True])
def test_session_finds_parameters(symmetric: bool) -> None:
    m, session = Matrix(), Session(1)
    for operation in ("params", "dynamic"):
        m.scale[:], m.zero_point[:], m.codes[:] = 0, 77, 99
        session.run(m.call(operation, symmetric=symmetric))
        for b, part in m.each():
            scale, zero = piquant.numpy.compute_quant_params(m.x[part], dtype="uint8", symmetric=symmetric)
            assert m.scale[b] == np.float32(scale)
            assert m.zero_point[b] == (77 if symmetric else zero)
            if operation == "dynamic":
                codes = piquant.numpy.quantize(m.x[part], scale=scale, zero_point=zero, dtype="uint8")
                np.testing.assert_array_equal(m.codes[part], codes)


def test_what_wakes_threads_is_a_part_of_the_call() -> None:
    rows, columns = 3000, 1024
    codes, out = np.ones((rows, columns), np.uint8), np.zeros((rows, columns), np.float32)
    scale = np.ones((rows, 8), np.float32)
    cut = Blocks((rows, columns), (1, 128), scale.ctypes.data)
    call = Call("add", codes.ctypes.data, "uint8", out.ctypes.data, "float32", rows * columns, blocks=cut)
    Session(1).measure(call, 1)
    woke = 1024
    assert (out[:woke] == 2).all()
    assert (out[woke:] == 1).all()


def test_calls_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="product of the blocks' shape"):
        Call("quantize", 0, "float32", 0, "uint8", 7, blocks=Blocks((2, 3), (1, 3), 0))
    with pytest.raises(ValueError, match="one rank"):
        Blocks((2, 3), (3,), 0)
    with pytest.raises(ValueError, match="no dtype is named float8"):
        Blocks((2, 3), (1, 3), 0, 0, "float8")
    x = np.zeros(8, np.float32)
    with pytest.raises(ValueError, match="blocks"):
        Session(1).run(Call("dynamic", x.ctypes.data, "float32", x.ctypes.data, "uint8", 8))


def floats_of(library: str, task: block_peers.Task, result: Any, data: libraries.Data) -> NDArray[Any]:
    """What a library's result stands for, by the library's format."""
    if task.operation == "dequantize":
        return data.to_floats if library == block_peers.OURS else np.asarray(result)
    if library == block_peers.OURS:
        packed = data.packed(task.cell)
        codes = packed if task.code == "uint8" else np.stack([packed & 15, packed >> 4], 1).ravel()
        middle = 1 << (piquant.DataType(task.code).bit_size - 1)
        zero = middle if task.operation == "symmetric" else result.zero_point[:, None].astype(np.float32)
        return (codes.reshape(-1, task.block) - np.float32(zero)) * result.scale[:, None]
    if library.startswith("FBGEMM"):
        rows = np.asarray(result)
        if task.code == "uint8":
            codes, tail = rows[:, :-8], np.ascontiguousarray(rows[:, -8:]).view(np.float32)
        else:
            codes = np.stack([rows[:, :-4] & 15, rows[:, :-4] >> 4], 2).reshape(len(rows), -1)
            tail = np.ascontiguousarray(rows[:, -4:]).view(np.float16).astype(np.float32)
        return codes * tail[:, :1] + tail[:, 1:]
    if library.startswith("torchao"):
        codes, scale, zero = (np.asarray(part).astype(np.float32) for part in result)
        return (codes - zero.reshape(-1, 1)) * scale.reshape(-1, 1)
    if library == "bitsandbytes":
        from bitsandbytes.functional import dequantize_blockwise  # noqa: PLC0415

        return np.asarray(dequantize_blockwise(*result))
    from gguf import GGMLQuantizationType, quants  # noqa: PLC0415

    return quants.dequantize(result, GGMLQuantizationType.Q8_0)


@pytest.mark.parametrize("library", list(block_peers.LIBRARIES))
def test_libraries_do_the_same_task(library: str) -> None:
    """Results are as near to the data as so many bits allow. A library that is absent is said to be, and why."""
    one = {library: block_peers.LIBRARIES[library]}
    present, absent = libraries.open_all(libraries.Setup(threads=1, compilers=False), one)
    if library in absent:
        assert library not in present
        assert absent[library] != ""
        return
    data = libraries.Data(4096)
    for task, call in present[library](data).items():
        data.to_codes[:], data.to_floats[:] = 0, 0
        found = floats_of(library, task, call(), data).ravel()
        if task.operation != "dequantize" or library == "bitsandbytes":
            # Of a range of about 8. bitsandbytes has its codes denser around zero.
            steps = 15 if task.code == "uint4" else 63 if library == "bitsandbytes" else 255
            assert np.abs(found - data.x).max() <= 0.6 * 8 / steps
        else:
            parameters = blocks.Parameters(4096 // task.block, "uint8")
            zero = parameters.zero_point[:, None].astype(np.float32)
            expected = (data.codes.reshape(-1, task.block) - zero) * parameters.scale[:, None]
            np.testing.assert_allclose(found, expected.ravel(), rtol=1e-6)
