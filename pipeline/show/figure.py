"""What all pictures share: size, fonts and colours, and PNG bytes that depend on the values alone.

Same values, same bytes: the Agg renderer, fixed sizes and fonts, no date or version in the file. matplotlib is imported
only when something is drawn.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#6b7785", "#dfe4ea"
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
}


@contextmanager
def figure(path: Path, width: float, height: float) -> Any:
    """A figure of that many inches, saved as PNG when the block ends; no pyplot, so nothing global is touched."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = dict(matplotlib.rcParamsDefault)  # first: a matplotlibrc of the user must not change the pictures
    style.update(_STYLE)
    del style["backend"]  # setting it would change the renderer of the whole process
    with matplotlib.rc_context(style):
        drawn: Figure = Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")
        FigureCanvasAgg(drawn)
        yield drawn
        drawn.savefig(path, metadata={"Software": None})


def nothing(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED)
