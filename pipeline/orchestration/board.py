"""Shows the state of each stage of a run: as a live table on a terminal, else as one line per change of state."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.orchestration.logs import read_tail, text_lines

State = Literal["waiting", "cached", "running", "done", "failed", "skipped"]
STYLES: dict[State, str] = {
    "waiting": "dim",
    "cached": "cyan",
    "running": "bold yellow",
    "done": "green",
    "failed": "bold red",
    "skipped": "dim red",
}


@dataclass
class StageRow:
    """The state of one stage."""

    state: State = "waiting"
    note: str = ""
    """Text of the last column. For a running stage, the last line of its log is shown instead."""
    started: float | None = None
    """time.monotonic() when the stage first started."""
    seconds: float | None = None
    """Duration, if the stage has ended."""
    log: Path | None = None
    """File that receives the output of the stage while it runs."""


class Board:
    """The states of all stages of a run. A context manager. `set_state` may be called from any thread.

    This base class shows nothing.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.rows = {stage: StageRow() for stage in stages}
        self.title = ""
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def set_title(self, title: str) -> None:
        """Set the text that says what the run does apart from its stages. Empty: no text."""
        with self._lock:
            self.title = title

    def set_state(self, stage: str, state: State, note: str = "", log: Path | None = None) -> None:
        """Set the state of a stage. Its duration counts from its first start to its end, retries included."""
        with self._lock:
            row = self.rows[stage]
            now = time.monotonic()
            if state == "running" and row.started is None:
                row.started = now
            if state in ("done", "failed", "cached") and row.started is not None:
                row.seconds = now - row.started
            row.state, row.note, row.log = state, note, log
            self._show_change(stage, row)

    def _show_change(self, stage: str, row: StageRow) -> None:
        """Called after each change of a state."""

    def count(self, state: State) -> int:
        """Number of stages in a state."""
        with self._lock:
            return sum(row.state == state for row in self.rows.values())


class PlainBoard(Board):
    """Prints one line per change of state, without control characters: for logs, CI and pipes."""

    def set_title(self, title: str) -> None:
        super().set_title(title)
        if title:
            print(title, flush=True)

    def _show_change(self, stage: str, row: StageRow) -> None:
        width = max(map(len, self.rows))
        line = f"{time.strftime('%H:%M:%S')}  {stage:<{width}}  {row.state:<7}  {duration(row):>8}  {row.note}"
        print(line.rstrip(), flush=True)


class LiveBoard(Board):
    """Shows a table that is updated four times per second."""

    def __init__(self, stages: Sequence[str], console: Console) -> None:
        super().__init__(stages)
        self._live = Live(
            console=console,
            get_renderable=self.table,
            refresh_per_second=4,
            vertical_overflow="ellipsis",
            transient=False,
        )

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.set_title("")
        self._live.stop()

    def table(self) -> Table:
        """The table of the present states. The row of a running stage ends with the last line of its log."""
        table = Table(box=None, pad_edge=False, expand=True, caption=self.title or None, caption_justify="left")
        table.add_column("stage", no_wrap=True)
        table.add_column("state", no_wrap=True, min_width=7)
        table.add_column("time", justify="right", no_wrap=True, min_width=7)
        table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
        with self._lock:
            for stage, row in self.rows.items():
                progress = last_message(row.log) if row.state == "running" and row.log else ""
                note = Text(progress or row.note, style="red" if row.state == "failed" else "dim")
                table.add_row(stage, Text(row.state, style=STYLES[row.state]), duration(row), note)
        return table


def make_board(stages: Sequence[str], console: Console) -> Board:
    """A live table if the console is a terminal that can move its cursor, else plain lines."""
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveBoard(stages, console)
    return PlainBoard(stages)


def duration(row: StageRow) -> str:
    """`3.2 s`, `4:05`, `1:02:03`; empty if the stage has not started."""
    if row.seconds is not None:
        seconds = row.seconds
    elif row.started is not None and row.state == "running":
        seconds = time.monotonic() - row.started
    else:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def last_message(log: Path) -> str:
    """The last line of a log that is neither blank nor DVC's announcement of the stage; empty if there is none."""
    try:
        lines = text_lines(read_tail(log))
    except OSError:
        return ""
    for line in reversed(lines):
        if not line.startswith(("Running stage '", "> ")):
            return line.strip()
    return ""
