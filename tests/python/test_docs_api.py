"""docs/api.md is what the docstrings say, and the faces say the same in the same words."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make_api(root: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, str(root / "scripts/make-api"), *arguments]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    return done.returncode, done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the script reads."""
    for name in ("scripts/make-api", "docs/api.md", "include/piquant/quant.h"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "python/piquant", tmp_path / "python/piquant", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_the_reference_is_up_to_date() -> None:
    assert make_api(ROOT, "--check") == (0, "")


def test_every_public_name_is_there() -> None:
    page = (ROOT / "docs/api.md").read_text()
    for module, file in (("piquant.torch", "torch/__init__"), ("piquant.numpy", "numpy"), ("piquant", "__init__")):
        names = re.search(r"^__all__ = \[(.*?)\]", (ROOT / f"python/piquant/{file}.py").read_text(), re.M | re.S)
        assert names is not None
        for name in re.findall(r'"(\w+)"', names[1]):
            assert f"{module}.{name}" in page
    assert "piquant.distributed.all_reduce(tensor:" in page  # not the function of that name behind it
    functions = re.findall(
        r"(piquant_\w+)\(", re.sub(r"/\*.*?\*/", "", (ROOT / "include/piquant/quant.h").read_text(), flags=re.S)
    )
    assert len(functions) > 20
    for function in functions:
        assert f"[`{function}`]" in page


def test_a_stale_reference_is_found(copy: Path) -> None:
    assert make_api(copy, "--check") == (0, "")
    edit(copy / "python/piquant/_error_bound.py", "smallest number of the data", "least number of the data")
    code, words = make_api(copy, "--check")
    assert code == 1
    assert "scripts/make-api writes it anew" in words
    assert make_api(copy) == (0, "")
    assert make_api(copy, "--check") == (0, "")
    assert "least number of the data" in (copy / "docs/api.md").read_text()


@pytest.mark.parametrize("face", ["torch/__init__", "numpy", "_buffers"])
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("smallest code; by default", "least code; by default", "quant_min of quantize"),
        ('"set" overwrites', '"set" replaces', "reduce_op of dequantize"),
        ("lo == hi == 0", "lo == hi", "compute_quant_params"),
        ("The difference is exact", "Differences are exact", "dequantize"),
    ],
)
def test_faces_that_differ_are_found(copy: Path, face: str, old: str, new: str, told: str) -> None:
    edit(copy / f"python/piquant/{face}.py", old, new)
    for arguments in ((), ("--check",)):
        code, words = make_api(copy, *arguments)
        assert code == 1
        assert told in words
