"""The command line, run as users run it."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

import piquant
from piquant import _demo
from piquant.__main__ import main

# A directory other than the checkout.
ANYWHERE = Path(sys.executable).anchor


def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "piquant", *arguments],
        capture_output=True,
        check=False,
        cwd=ANYWHERE,
        env={**os.environ, **(environment or {})},
        text=True,
        timeout=300,
    )


def test_demo_stays_within_every_bound() -> None:
    done = run("demo", "--count", "50000")  # scripts/test-wheel runs it on the million that it takes by itself
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(("float", "bfloat"))]
    from_float32 = {(row[1], row[4]) for row in rows if row[0] == "float32"}
    assert from_float32 == {(t.value, mode) for t in _demo.TARGETS for mode in ("nearest", "stochastic")}
    assert {row[0] for row in rows} == {"float16", "bfloat16", "float32", "float64"}
    assert all(0 < float(row[5]) <= float(row[6]) for row in rows)
    assert f"Bounds violated: 0 of {len(rows)}." in done.stdout


def test_demo_does_not_need_third_party_packages() -> None:
    # -S leaves out site-packages; the package itself comes by path.
    home = Path(piquant.__file__).parents[1]
    code = f"""
import sys
sys.path.append({str(home)!r})
from piquant.__main__ import main
code = main(["demo", "--count", "1000"])
assert not {{"numpy", "torch", "ml_dtypes"}} & set(sys.modules)
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_demo_of_few_numbers(count: int) -> None:
    done = run("demo", "--count", str(count))
    assert done.returncode == 0, done.stderr


def test_demo_fails_when_a_bound_is_violated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(piquant, "error_bound", lambda *_, **__: 1e-9)
    assert main(["demo", "--count", "100"]) == 1
    out = capsys.readouterr().out
    assert "VIOLATED" in out
    assert f"Bounds violated: {_demo.TOTAL} of {_demo.TOTAL}." in out


@pytest.mark.parametrize("count", ["0", "-1", "many", "1.5"])
def test_demo_rejects_a_bad_count(count: str) -> None:
    done = run("demo", f"--count={count}")
    assert done.returncode == 2
    assert "--count: must be an integer of at least 1" in done.stderr


def test_a_closed_pipe_is_no_traceback() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "piquant", "demo", "--count", "1000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_bad_environment_variable_is_no_traceback() -> None:
    done = run("demo", environment={"PIQUANT_ISA": "mmx"})
    assert done.returncode == 2
    assert "error: an environment variable is invalid" in done.stderr
    assert "Traceback" not in done.stderr


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"piquant {piquant.__version__}\n")


def test_no_command_prints_help() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert "demo" in done.stderr


@pytest.mark.parametrize("options", [[], ["--quick"], ["--isa", "all"]])
def test_a_command_that_is_not_installed_says_how_to_get_it(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: ())
    assert main(["bench", *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert "pip install . ./benchmarks" in said.err


def test_installed_commands_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = types.SimpleNamespace(
        SUMMARY="wave",
        add_arguments=lambda parser: parser.add_argument("--code", type=int),
        run=lambda given: given.code,
    )
    entry = types.SimpleNamespace(name="greet", load=lambda: command)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry] * (group == "piquant.commands"))
    assert main([]) == 2
    listed = capsys.readouterr().err
    assert all(words in listed for words in ("demo", "greet", "wave", "not installed"))
    assert main(["greet", "--code", "7"]) == 7


def test_unknown_arguments_are_refused() -> None:
    done = run("demo", "--cuont", "5")
    assert done.returncode == 2
    assert "unrecognized arguments: --cuont 5" in done.stderr


def test_flags_and_a_command_exclude_each_other() -> None:
    done = run("--includes", "demo")
    assert done.returncode == 2
    assert "--includes" in done.stderr


def test_flags_name_what_is_installed() -> None:
    includes, libs = run("--includes").stdout.split(), run("--libs").stdout.split()
    assert (Path(includes[0].removeprefix("-I")) / "piquant" / "quant.h").is_file()
    directory = Path(libs[0].removeprefix("-L"))
    assert list(directory.glob("libpiquant.*"))
    assert libs[1:] == ["-lpiquant"] + ([] if os.name == "nt" else [f"-Wl,-rpath,{directory}"])
    assert run("--includes", "--libs").stdout.split() == [*includes, *libs]


def test_the_installed_script_is_the_same_command() -> None:
    script = shutil.which("piquant", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("no script directory beside this interpreter")
    done = subprocess.run([script, "--version"], capture_output=True, check=False, text=True, timeout=60)
    assert done.stdout == f"piquant {piquant.__version__}\n"
