"""Bandwidths on a CUDA device as a picture, of what ``piquant bench --cuda`` or ``scripts/test-cuda`` printed.

python -m piquant_bench.cuda_chart docs/runs/2026-11-30-test-cuda.md docs/images/cuda.svg
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import matplotlib
from matplotlib.figure import Figure

from piquant_bench.style import INK, OURS_COLOR, PEER_COLOR, STYLE

if TYPE_CHECKING:
    from collections.abc import Sequence

FLOATS: Final = ("float32", "bfloat16")
_LINE: Final = re.compile(r"(\S.*?) {2,}(\d+\.\d\d) +(\d+\.\d\d)")
_TORCH: Final = "torch: "


class Bar(NamedTuple):
    """One kind of work."""

    name: str
    terabytes: float
    of_copy: float

    @property
    def is_torchs(self) -> bool:
        """Whether it is torch's own, to compare with."""
        return self.name.startswith(_TORCH)

    @property
    def label(self) -> str:
        """The name, as it stands beside the bar."""
        name = self.name.removeprefix(_TORCH).replace("quantize_per_tensor", "torch.quantize_per_tensor")
        return name.replace("copy_", "torch's copy_").replace(", blocks of", ", one pass, blocks of", 1).replace(
            ", one pass, symmetric", ""
        )  # fmt: skip


def read(text: str) -> tuple[str, list[Bar]]:
    """The device and its table."""
    device = re.search(r"^(.+, [\d,]+ elements)$", text, re.MULTILINE)
    found = [match for match in map(_LINE.fullmatch, text.splitlines()) if match]
    if device is None or not found or found[0][1] != "copy":
        raise ValueError("there is no table of bandwidths, as piquant bench --cuda prints it")
    return device[1], [Bar(match[1], float(match[2]), float(match[3])) for match in found]


def draw(device: str, bars: Sequence[Bar], path: Path) -> None:
    """Draws work on float32 and on bfloat16 side by side, to a file of the kind that its name ends with."""
    copy, *rest = bars
    rest = [bar for bar in rest if "asymmetric" not in bar.name]
    panels_of = {real: [bar for bar in rest if real in bar.name] for real in FLOATS}
    most = max(map(len, panels_of.values()))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 1.6 + 0.27 * most), layout="constrained")
        panels = figure.subplots(1, len(FLOATS))
        for axes, (real, works) in zip(panels, panels_of.items(), strict=True):
            ours, torchs = ([bar for bar in works if bar.is_torchs is is_torchs] for is_torchs in (False, True))
            shown = [*ours, *torchs]
            axes.barh(
                [bar.label for bar in shown],
                [bar.terabytes for bar in shown],
                color=[PEER_COLOR if bar.is_torchs else OURS_COLOR for bar in shown],
                height=0.68,
            )
            for y, bar in enumerate(shown):
                axes.text(
                    bar.terabytes - 0.03, y, f"{bar.of_copy:.2f}", ha="right", va="center", fontsize=8, color="white"
                )
            axes.axvline(copy.terabytes, color=INK, linestyle="--", linewidth=1, zorder=0)
            axes.set_ylim(most - 0.4, -1.2)
            axes.set_xlim(0, 1.04 * max(bar.terabytes for bar in bars))
            axes.text(copy.terabytes, -0.6, "copy ", ha="right", va="bottom", fontsize=9)
            axes.set_xlabel("TB/s, in bars as a part of a copy's")
            axes.set_title(real, loc="left")
        figure.suptitle(f"{device}; red: piquant, grey: torch", fontsize=10, ha="left", x=0.01)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Reads a file and draws one."""
    parser = argparse.ArgumentParser(prog="python -m piquant_bench.cuda_chart", description=main.__doc__)
    parser.add_argument("run", type=Path, help="what was printed")
    parser.add_argument("picture", type=Path, help="file to draw to: .svg or .png")
    given = parser.parse_args()
    draw(*read(given.run.read_text()), given.picture)


if __name__ == "__main__":
    main()
