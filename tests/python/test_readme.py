"""Every program in the documentation runs, prints what it says, and has the types it should."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Block(NamedTuple):
    document: str
    line: int
    text: str

    @property
    def name(self) -> str:
        return f"{Path(self.document).stem.lower()}_line_{self.line}"


def blocks(language: str) -> list[Block]:
    found = []
    pages = ("guide", "numerics", "blocks", "torch", "modules", "distributed")
    for document in ("README.md", *(f"docs/{name}.md" for name in pages)):
        text = (ROOT / document).read_text()
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            found.append(Block(document, text.count("\n", 0, match.start()) + 2, match[1]))
    return found


PYTHON, C = blocks("python"), blocks("c")


def test_the_blocks_are_found() -> None:
    assert len(PYTHON) >= 10
    assert len(C) == 1


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch deprecates its quantized dtypes
def test_python_block(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    for module in re.findall(r"^import (numpy|torch)", block.text, re.MULTILINE):
        pytest.importorskip(module)
    exec(compile(block.text, f"{block.document}:{block.line}", "exec", dont_inherit=True), {"__name__": "__main__"})
    expected = re.findall(r"^print\(.*\)  # (.*)$", block.text, re.MULTILINE)
    if expected:
        assert capsys.readouterr().out.splitlines() == expected


def test_python_blocks_have_types(tmp_path: Path) -> None:
    for module in ("mypy", "numpy", "torch"):
        pytest.importorskip(module)
    for block in PYTHON:
        (tmp_path / f"{block.name}.py").write_text(block.text)
    # As strictly as the package itself; by other rules it would go through torch once more.
    rules = [f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={ROOT / '.mypy_cache'}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *rules, "--no-error-summary", "."],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        text=True,
        timeout=900,
    )
    # torch has these dtypes and classes, its stubs do not.
    unknown_to_torch = re.compile(
        r'.*Module has no attribute "u?int[24]"  \[attr-defined\]'
        r'|.*"torch.distributed" does not explicitly export attribute "HashStore" .*'
        r'|.*Call to untyped function "backward" in typed context .*'
    )
    errors = [line for line in done.stdout.splitlines() if not unknown_to_torch.fullmatch(line)]
    assert not errors, "\n".join(errors)
    assert done.returncode in (0, 1), done.stderr


@pytest.mark.parametrize("block", C, ids=lambda block: block.name)
def test_c_block(block: Block, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    flags = subprocess.run(
        [sys.executable, "-m", "piquant", "--includes", "--libs"], capture_output=True, check=True, text=True
    ).stdout
    source, program = tmp_path / "program.c", tmp_path / "program"
    source.write_text(block.text)
    subprocess.run(
        [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", source, *shlex.split(flags), "-o", program], check=True
    )
    subprocess.run([program], check=True)
