"""The stages of one run: which are ready, which are done, and one attempt at one of them. Knows no Prefect."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from pipeline.orchestration.board import Board
from pipeline.orchestration.graph import StageGraph
from pipeline.orchestration.processes import Processes
from pipeline.project.root import log_path

DELAYS_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Pauses before the tries after the first."""


class Failure(Exception):
    """A stage failed and trying again would not help. The message is one line for the user."""


class TryAgain(Failure):
    """A stage failed by a lock conflict or a transient download."""


class Work:
    """State of one run. `start`, `finish` and `ready` belong to one thread; `attempt` may run in several."""

    def __init__(self, root: Path, graph: StageGraph, board: Board, delays_s: tuple[float, ...] = DELAYS_S) -> None:
        self.root = root
        self.graph = graph
        self.board = board
        self.failures: dict[str, str] = {}
        self.stop_signal: int | None = None
        self.stop_event = threading.Event()
        self._processes = Processes(root)
        self._delays_s = delays_s
        self._waiting = list(graph.may_run())
        self._unchanged = set(graph.order).difference(self._waiting)
        self._done = set(self._unchanged)
        for stage in graph.order:
            if stage in self._unchanged:
                board.set(stage, "cached")

    @property
    def retries(self) -> int:
        return len(self._delays_s)

    @property
    def stopped(self) -> bool:
        return self.stop_event.is_set()

    @property
    def finished(self) -> bool:
        """Whether every stage is up to date."""
        return len(self._done) == len(self.graph.order)

    def pending(self) -> tuple[str, ...]:
        """Stages that have not started."""
        return tuple(self._waiting)

    def ready(self) -> list[str]:
        """Stages that can start now, in DVC's order.

        A stage that is not stale itself and whose parents all turned out unchanged is done here, without a process.
        """
        if self.stopped:
            return []
        for stage in self._waiting.copy():
            idle = stage not in self.graph.stale and stage not in self.graph.forced
            if idle and self._unchanged.issuperset(self.graph.parents[stage]):
                self._waiting.remove(stage)
                self._unchanged.add(stage)
                self._done.add(stage)
                self.board.set(stage, "cached")
        return [stage for stage in self._waiting if self._done.issuperset(self.graph.parents[stage])]

    def start(self, stage: str) -> None:
        """A ready stage is given to a worker."""
        self._waiting.remove(stage)

    def attempt(self, stage: str, number: int) -> str:
        """Run one stage and say how: `done`, `restored` or `unchanged`.

        Args:
            stage: its name.
            number: 1 for the first attempt; a later one waits a while first, unless the run is being stopped.

        Raises:
            TryAgain, Failure: with one line for the user.
        """
        if number > 1:
            self.stop_event.wait(self._delays_s[min(number - 2, len(self._delays_s) - 1)])
        if self.stopped:
            raise Failure("interrupted")
        log = log_path(self.root, stage)
        self.board.set(stage, "running", log=log)
        outcome = self._processes.run(stage, log, force=stage in self.graph.forced, again=number > 1)
        if outcome.kind in ("locked", "transient"):
            if not self.stopped and number <= self.retries:
                seconds = self._delays_s[number - 1]
                self.board.set(stage, "waiting", f"{outcome.message}; next try ({number + 1}) in {seconds:g} s")
            raise TryAgain(outcome.message)
        if outcome.kind == "failed":
            raise Failure(outcome.message)
        return outcome.kind

    def finish(self, stage: str, result: str | BaseException) -> None:
        """Take note of how a stage ended; what depends on a failed one is skipped."""
        if isinstance(result, BaseException):
            self.failures[stage] = str(result) or type(result).__name__
            self.board.set(stage, "failed", self.failures[stage])
            for other in self.graph.order:
                if other in self._waiting and other in self.graph.descendants(stage):
                    self._waiting.remove(other)
                    self.board.set(other, "skipped", f"needs {stage}")
            return
        self._done.add(stage)
        if result == "unchanged":
            self._unchanged.add(stage)
        note = "outputs taken from DVC's run cache" if result == "restored" else ""
        self.board.set(stage, "done" if result == "done" else "cached", note)

    def skip_rest(self) -> None:
        """Mark what never started."""
        for stage in self._waiting:
            self.board.set(stage, "skipped")
        self._waiting.clear()

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """While inside, Ctrl-C and SIGTERM end the running stages and let the run wind up; a second one kills them."""

        def stop(number: int, frame: FrameType | None) -> None:
            again = self.stopped
            self.stop_signal = self.stop_signal or number
            self.stop_event.set()
            self._processes.stop(now=again)

        old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def close(self) -> None:
        """End whatever still runs; only after a fault of the orchestration itself is there any."""
        self._processes.stop()
