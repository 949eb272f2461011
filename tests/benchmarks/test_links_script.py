"""``scripts/links`` keeps to itself, and leaves nothing behind however it ends. A shell stands for what it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
# In place of the measurement: says where it is, makes what it could leave behind, and has a child.
STUB = """#!/bin/sh
[ "$1" != -c ] || exit 0
ip link add left type veth peer name right
touch /dev/shm/piquant-links-left
sleep 600 &
readlink /proc/self/ns/net
wait
"""


@pytest.fixture
def script(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)
    with subprocess.Popen(
        ["env", "--default-signal=INT", ROOT / "scripts/links", "--rates", "none"],  # jobs of a shell may ignore it
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHON": str(stub)},
    ) as process:  # fmt: skip
        yield process
        process.kill()


def descendants(ancestor: int) -> set[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # it has just ended
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {ancestor}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {ancestor}


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_script(script: subprocess.Popen[str], ending: signal.Signals) -> None:
    assert script.stdout is not None
    assert script.stderr is not None
    network = script.stdout.readline().strip()
    if not network:
        pytest.skip(script.stderr.read())
    assert network.startswith("net:[")
    assert network != os.readlink("/proc/self/ns/net")
    inside = descendants(script.pid)
    assert len(inside) >= 3  # what keeps the namespaces, a shell and its child
    script.send_signal(ending)
    assert script.wait(30) == (-ending if ending == signal.SIGKILL else 128 + ending)
    deadline = time.monotonic() + 30
    while inside & {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}:
        assert time.monotonic() < deadline, "processes are left"
        time.sleep(0.01)
    assert not Path("/sys/class/net/left").exists()
    assert not Path("/dev/shm/piquant-links-left").exists()


def test_what_is_lacking_is_said(tmp_path: Path) -> None:
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\nexit 1\n")
    stub.chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts/links"], check=False, capture_output=True, text=True, env=os.environ | {"PYTHON": str(stub)}
    )
    assert done.returncode == 1
    assert f"{stub} has no piquant.distributed" in done.stderr
