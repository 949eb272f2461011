"""How pictures look."""

from __future__ import annotations

from typing import Any, Final

OURS_COLOR: Final = "#d1495b"
PEER_COLOR: Final = "#8d99ae"
INK: Final = "#2b2d42"

STYLE: Final[dict[Any, Any]] = {
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "svg.hashsalt": "piquant",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
