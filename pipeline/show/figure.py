"""Style of all plots, and how they are saved.

The PNG bytes depend on the plotted values only: the Agg renderer, fixed sizes and fonts, no date and no version in the
file. matplotlib is imported only when something is plotted.
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
def png_figure(path: Path, width: float, height: float) -> Any:
    """A matplotlib figure of `width` x `height` inches that is saved to `path` as PNG when the block ends.

    It does not use pyplot, so it changes no global state.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = dict(matplotlib.rcParamsDefault)  # a matplotlibrc of the user must not change the plots
    style.update(_STYLE)
    del style["backend"]  # setting it would change the renderer of the whole process
    with matplotlib.rc_context(style):
        figure: Figure = Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        yield figure
        figure.savefig(path, metadata={"Software": None})


def write_centred(axes: Axes, text: str) -> None:
    """Write a text into the centre of axes that have nothing to show."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED)
