"""What a measurement depends on: the machine, the commit and the versions.

Systems other than Linux lack some of the functions that tell. What they do not tell is None.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Final

import piquant

_PACKAGES: Final = (
    "numpy", "torch", "onnxruntime", "onnx", "ml_dtypes", "matplotlib", "fbgemm-gpu-cpu", "torchao", "bitsandbytes",
    "gguf",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """Machine, commit and versions, as they go into the JSON file."""
    return {"machine": machine(), "commit": commit(), "versions": versions()}


def machine() -> dict[str, Any]:
    """The CPU, its caches, the kernel and the memory."""
    return {
        "cpu": _cpu_model(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": len(usable_processors()),
        "threads": piquant.get_num_threads(),
        "caches": _caches(),
        "isa": piquant.isa(),
        "available_isas": piquant.available_isas(),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_average": load_average(),
        "memory_bytes": _pages("SC_PHYS_PAGES"),
    }


def load_average() -> float | None:
    """Of the last minute: what else was running."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def usable_processors() -> list[int]:
    """Numbers of those that this process may run on; all, where the system does not limit it."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:
        return list(range(os.cpu_count() or 1))


def _pages(name: str) -> int | None:
    """Bytes of as many pages of memory as the system has of this name."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf(name)
    except (AttributeError, OSError, ValueError):
        return None


def _cpu_model() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _caches() -> dict[str, str]:
    """Sizes of the caches of the first core, as the kernel describes them: {"L1d": "32K", ...}."""
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ("".join(_lines(index / name)) for name in ("level", "type", "size"))
        suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
        caches[f"L{level}{suffix}"] = size
    return caches


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def commit() -> str | None:
    """The commit of the checkout of this project that is the current directory, if it is one."""
    if not Path("include/piquant/quant.h").is_file():
        return None
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, check=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def versions() -> dict[str, str | None]:
    """Versions of all that takes part; None for what is not installed."""
    found: dict[str, str | None] = {"piquant": piquant.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def available_memory() -> int | None:
    """Bytes that can be had without swapping."""
    available: int | None
    for line in _lines(Path("/proc/meminfo")):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            available = int(value.split()[0]) * 1024
            break
    else:
        available = _pages("SC_AVPHYS_PAGES")
    limit = "".join(_lines(Path("/sys/fs/cgroup/memory.max")))
    known = [available] if available is not None else []
    return min([*known, int(limit)]) if limit.isdigit() else available
