"""What a run shows: a live table on a terminal, else one plain line at each change of a stage's state."""

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

from pipeline.orchestration.processes import lines, tail

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
class Row:
    """One stage."""

    state: State = "waiting"
    note: str = ""
    """What the last column says; a running stage's log takes its place."""
    started: float | None = None
    """time.monotonic() at its first start."""
    seconds: float | None = None
    """How long it took, once it ended."""
    log: Path | None = None
    """Where its output goes while it runs."""


class Board:
    """The stages of a run and their states. A context manager; `set` may be called from any thread."""

    def __init__(self, stages: Sequence[str]) -> None:
        self.rows = {stage: Row() for stage in stages}
        self.title = ""
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def say(self, title: str) -> None:
        """What goes on beside the stages; empty when nothing does."""
        with self._lock:
            self.title = title

    def set(self, stage: str, state: State, note: str = "", log: Path | None = None) -> None:
        """Move a stage to a state. Its clock starts when it first runs and stops when it has ended."""
        with self._lock:
            row = self.rows[stage]
            now = time.monotonic()
            if state == "running" and row.started is None:
                row.started = now
            if state in ("done", "failed", "cached") and row.started is not None:
                row.seconds = now - row.started
            row.state, row.note, row.log = state, note, log
            self._changed(stage, row)

    def _changed(self, stage: str, row: Row) -> None:
        """Show one row's change."""

    def count(self, state: State) -> int:
        """How many stages are in a state."""
        with self._lock:
            return sum(row.state == state for row in self.rows.values())


class PlainBoard(Board):
    """A line at each change of state: for logs, CI and pipes. No control characters."""

    def say(self, title: str) -> None:
        super().say(title)
        if title:
            print(title, flush=True)

    def _changed(self, stage: str, row: Row) -> None:
        width = max(map(len, self.rows))
        words = f"{time.strftime('%H:%M:%S')}  {stage:<{width}}  {row.state:<7}  {duration(row):>8}  {row.note}"
        print(words.rstrip(), flush=True)


class LiveBoard(Board):
    """A table that is drawn anew four times a second."""

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
        self.say("")
        self._live.stop()

    def table(self) -> Table:
        """The table as things stand. A running stage shows the last line of its log."""
        table = Table(box=None, pad_edge=False, expand=True, caption=self.title or None, caption_justify="left")
        table.add_column("stage", no_wrap=True)
        table.add_column("state", no_wrap=True, min_width=7)
        table.add_column("time", justify="right", no_wrap=True, min_width=7)
        table.add_column("", ratio=1, no_wrap=True, overflow="ellipsis")
        with self._lock:
            for stage, row in self.rows.items():
                words = last_line(row.log) if row.state == "running" and row.log else ""
                note = Text(words or row.note, style="red" if row.state == "failed" else "dim")
                table.add_row(stage, Text(row.state, style=STYLES[row.state]), duration(row), note)
        return table


def board_for(stages: Sequence[str], console: Console) -> Board:
    """The table on a terminal that can move its cursor, else plain lines."""
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveBoard(stages, console)
    return PlainBoard(stages)


def duration(row: Row) -> str:
    """`3.2 s`, `4:05`, `1:02:03`; empty for a stage that never started."""
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


def last_line(log: Path) -> str:
    """The latest line of a log, blank ones and DVC's own announcements left out; empty where there is none."""
    try:
        found = lines(tail(log))
    except OSError:
        return ""
    for line in reversed(found):
        if not line.startswith(("Running stage '", "> ")):
            return line.strip()
    return ""
