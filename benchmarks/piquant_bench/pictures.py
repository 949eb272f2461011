"""The results as pictures, each as PNG and as SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from piquant_bench.cells import TARGETS
from piquant_bench.libraries import DEQUANTIZE, MEMORY, OURS, QUANTIZE
from piquant_bench.report import Row, cell_of, duration, groups, matrix_order, ratio_of, threads_of

if TYPE_CHECKING:
    from pathlib import Path

_OURS_COLOR: Final = "#d1495b"
_PEER_COLOR: Final = "#8d99ae"
_INK: Final = "#2b2d42"

_OVER_LINES: Final[dict[str, Any]] = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}

_STYLE: Final[dict[Any, Any]] = {
    "font.size": 10,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "svg.hashsalt": "piquant",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def draw(results: dict[str, Any], directory: Path) -> list[str]:
    """Draws everything into a directory and returns the names of the files."""
    with matplotlib.rc_context(_STYLE):
        figures = {
            "quantize": _bars(results, str(QUANTIZE.cell)),
            "dequantize": _bars(results, str(DEQUANTIZE.cell)),
            "curve": _curve(results),
        }
        if results["inside_program"]:
            figures["inside-program"] = _inside_program(results)
        for (isa,), rows in groups(results["efficiency"], "isa").items():
            figures[f"efficiency-{isa}"] = _heat(rows, isa)
        names = []
        for name, figure in figures.items():
            for suffix in ("png", "svg"):
                figure.savefig(directory / f"{name}.{suffix}", dpi=150)
                names.append(f"{name}.{suffix}")
    return names


def _bars(results: dict[str, Any], task: str) -> Figure:
    """Libraries by speed, fastest on top, with the speed of memory as a line."""
    same = [r for r in results["peers"] if r["task"] == task]
    n = max(r["elements"] for r in same)
    rows = {r["library"]: r for r in same if r["elements"] == n}
    memory = rows.pop(MEMORY)["gb_per_second"]
    bars = sorted(rows.values(), key=lambda r: -float(r["seconds"]))
    figure = Figure(figsize=(8, 1.6 + 0.42 * len(bars)), layout="constrained")
    axes = figure.subplots()
    axes.barh(
        [r["library"] for r in bars],
        [r["gb_per_second"] for r in bars],
        color=[_OURS_COLOR if r["library"].startswith(OURS) else _PEER_COLOR for r in bars],
        height=0.68,
    )
    for y, r in enumerate(bars):
        comparison = "" if r["library"] == OURS else f"  ({ratio_of(r)} times ours)"
        label = f"{duration(r['seconds'])}{comparison}"
        axes.annotate(
            label, (r["gb_per_second"], y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9,
            bbox=_OVER_LINES,
        )  # fmt: skip
    for tick, r in zip(axes.get_yticklabels(), bars, strict=True):
        tick.set_fontweight("bold" if r["library"] == OURS else "normal")
    axes.axvline(memory, color=_INK, linestyle="--", linewidth=1, zorder=0)
    axes.text(memory, len(bars) - 0.45, "same traffic, no arithmetic ", ha="right", va="bottom", fontsize=9)
    axes.set_xlim(0, 1.45 * max(memory, *(r["gb_per_second"] for r in bars)))
    axes.set_ylim(-0.6, len(bars))
    axes.set_xlabel("GB/s read and written (higher is better)")
    machine = results["machine"]
    axes.set_title(f"{task}, {n:,} elements, {threads_of(machine['threads'])}\n{machine['cpu']}", loc="left")
    return figure


def _heat(rows: list[Row], isa: str) -> Figure:
    """The efficiency matrices of one instruction set, side by side."""
    matrices = groups(rows, "elements", "threads")
    lines = list(groups(sorted(rows, key=matrix_order), "operation", "real"))
    figure = Figure(figsize=(1.8 + 5.6 * len(matrices), 1.8 + 0.34 * len(lines)), layout="constrained")
    panels = figure.subplots(1, len(matrices), sharey=True, squeeze=False)[0]
    for axes, ((n, threads), cells) in zip(panels, matrices.items(), strict=True):
        places = {(lines.index((c["operation"], c["real"])), TARGETS.index(c["code"])): c for c in cells}
        values = np.full((len(lines), len(TARGETS)), np.nan)
        for place, cell in places.items():
            values[place] = cell["efficiency"]
        image = axes.imshow(values, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
        for (y, x), cell in places.items():
            label, ink = ratio_of(cell, "efficiency"), _ink_on(cell["efficiency"])
            axes.text(x, y, label, ha="center", va="center", fontsize=8, color=ink)
        axes.set_xticks(range(len(TARGETS)), TARGETS)
        axes.set_yticks(range(len(lines)), [f"{operation} {real}" for operation, real in lines])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(f"{n:,} elements, {threads_of(threads)}", loc="left")
    figure.colorbar(image, ax=list(panels), label="efficiency: time of the traffic alone / time of the kernel")
    figure.suptitle(f"Efficiency on {isa}: 1 is the speed of memory, ~ is noise")
    return figure


def _inside_program(results: dict[str, Any]) -> Figure:
    """Time over torch's, of each task, size and state: bars below the line are faster than torch."""
    rows = [r for r in results["inside_program"] if r["library"] == OURS]
    tasks = groups(rows, "task")
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False).ravel()
    names = {"loop": "in a loop", "after": "directly after another operation", "rest": "after a rest of 5 ms"}
    for axes, ((task,), of_task) in zip(panels, tasks.items(), strict=True):
        states = groups(of_task, "state")
        for i, ((state,), points) in enumerate(states.items()):
            places = [k + (i - 1) * 0.27 for k in range(len(points))]
            axes.bar(
                places, [p["ratio"] for p in points], width=0.24, color=("#f0b7bd", _OURS_COLOR, "#8c2f3b")[i],
                label=names[state],
            )  # fmt: skip
            for x, p in zip(places, points, strict=True):
                axes.annotate(
                    ratio_of(p), (x, p["ratio"]), xytext=(0, 2), textcoords="offset points", ha="center", fontsize=7
                )
        axes.set_xticks(range(len(points)), [f"{p['elements']:,}" for p in points], fontsize=8)
        axes.axhline(1, color=_INK, linestyle="--", linewidth=1)
        axes.set_title(task, loc="left")
    panels[0].set_ylabel("time / time of torch's function")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(
        f"Inside a torch program (lower is better, below the line is faster than torch). {results['machine']['cpu']}, "
        f"{threads_of(results['machine']['threads'])}"
    )
    return figure


def _ink_on(value: float) -> str:
    """The color of text that is readable on the color of an efficiency."""
    return "white" if value > 0.85 or value < 0.15 else _INK


def _curve(results: dict[str, Any]) -> Figure:
    """Cost per element of each operation, and of its traffic alone."""
    cells = groups(results["curve"], "operation", "real", "code")
    figure = Figure(figsize=(11, 3.4 * ((len(cells) + 1) // 2)), layout="constrained")
    panels = figure.subplots((len(cells) + 1) // 2, 2, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, rows in zip(panels, cells.values(), strict=False):
        for ((threads,), points), color in zip(groups(rows, "threads").items(), (_OURS_COLOR, "#30638e"), strict=False):
            sizes = [p["elements"] for p in points]
            axes.loglog(sizes, [p["ns_per_element"] for p in points], color=color, label=threads_of(threads), base=2)
            axes.loglog(
                sizes, [p["twin_ns_per_element"] for p in points], color=color, linestyle=":", linewidth=1,
                label=f"{threads_of(threads)}, traffic alone", base=2,
            )  # fmt: skip
            cliffs = [p for p in points if p["cliff"]]
            axes.plot(
                [p["elements"] for p in cliffs], [p["ns_per_element"] for p in cliffs],
                "o", markersize=9, markerfacecolor="none", color=color,
            )  # fmt: skip
        axes.set_title(str(cell_of(rows[0])), loc="left")
        axes.set_yscale("log", base=10)
        axes.grid(alpha=0.25)
    panels[0].legend(fontsize=9, frameon=False)
    figure.supxlabel("elements")
    figure.supylabel("ns per element (lower is better)")
    figure.suptitle(f"Cost per element; circles mark cliffs. {results['machine']['cpu']}, {results['machine']['isa']}")
    return figure
