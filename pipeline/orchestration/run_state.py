"""The state of one run: which stages are ready, running and done, and attempts to run them. Independent of Prefect."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from pipeline.orchestration.board import Board
from pipeline.orchestration.graph import StageGraph
from pipeline.orchestration.processes import StageProcesses
from pipeline.project.root import log_path

RETRY_DELAYS_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Pause before each attempt after the first one. There are as many retries as pauses."""


class StageFailure(Exception):
    """A stage failed, and a retry would not help. The message is one line for the user."""


class RetryableFailure(StageFailure):
    """A stage failed because of a lock conflict or a download, so a retry may succeed."""


class RunState:
    """The state of one run.

    Only one thread may call `ready`, `start` and `finish`. Several threads may call `attempt`.
    """

    def __init__(
        self, root: Path, graph: StageGraph, board: Board, retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S
    ) -> None:
        self.root = root
        self.graph = graph
        self.board = board
        self.failures: dict[str, str] = {}
        """Stage -> message."""
        self.stop_signal: int | None = None
        self.stop_event = threading.Event()
        self._processes = StageProcesses(root)
        self._retry_delays_s = retry_delays_s
        self._waiting = list(graph.may_run())
        self._unchanged = set(graph.order).difference(self._waiting)
        self._done = set(self._unchanged)
        for stage in graph.order:
            if stage in self._unchanged:
                board.set_state(stage, "cached")

    @property
    def retries(self) -> int:
        """How often a stage may be retried."""
        return len(self._retry_delays_s)

    @property
    def stopped(self) -> bool:
        """Whether a signal has asked the run to end."""
        return self.stop_event.is_set()

    @property
    def finished(self) -> bool:
        """Whether every stage is up to date."""
        return len(self._done) == len(self.graph.order)

    def succeeded(self) -> tuple[str, ...]:
        """Stages that are up to date, in DVC's order."""
        return tuple(stage for stage in self.graph.order if stage in self._done)

    def pending(self) -> tuple[str, ...]:
        """Stages that have not started, in DVC's order."""
        return tuple(self._waiting)

    def ready(self) -> list[str]:
        """Stages that can start now, in DVC's order.

        A stage that is neither stale nor forced, and whose parents all ended unchanged, is marked as cached without
        a process.
        """
        if self.stopped:
            return []
        for stage in self._waiting.copy():
            is_current = stage not in self.graph.stale and stage not in self.graph.forced
            if is_current and self._unchanged.issuperset(self.graph.parents[stage]):
                self._waiting.remove(stage)
                self._unchanged.add(stage)
                self._done.add(stage)
                self.board.set_state(stage, "cached")
        return [stage for stage in self._waiting if self._done.issuperset(self.graph.parents[stage])]

    def start(self, stage: str) -> None:
        """Mark a ready stage as started."""
        self._waiting.remove(stage)

    def attempt(self, stage: str, number: int) -> str:
        """Run one stage, and return how it ended: `done`, `restored` or `unchanged` (see `Outcome.kind`).

        Args:
            stage: its name.
            number: 1 for the first attempt. Later attempts first wait for their retry delay.

        Raises:
            RetryableFailure: a retry may succeed.
            StageFailure: a retry would not help, or the run has been asked to end.
        """
        if number > 1:
            self.stop_event.wait(self._retry_delays_s[min(number - 2, len(self._retry_delays_s) - 1)])
        if self.stopped:
            raise StageFailure("interrupted")
        log = log_path(self.root, stage)
        self.board.set_state(stage, "running", log=log)
        outcome = self._processes.run(stage, log, force=stage in self.graph.forced, again=number > 1)
        if outcome.kind in ("locked", "transient"):
            if not self.stopped and number <= self.retries:
                delay_s = self._retry_delays_s[number - 1]
                self.board.set_state(stage, "waiting", f"{outcome.message}; attempt {number + 1} in {delay_s:g} s")
            raise RetryableFailure(outcome.message)
        if outcome.kind == "failed":
            raise StageFailure(outcome.message)
        return outcome.kind

    def finish(self, stage: str, result: str | BaseException) -> None:
        """Record how a stage ended. If it failed, all its descendants are skipped.

        Args:
            stage: its name.
            result: what `attempt` returned or raised.
        """
        if isinstance(result, BaseException):
            self.failures[stage] = str(result) or type(result).__name__
            self.board.set_state(stage, "failed", self.failures[stage])
            for descendant in self.graph.order:
                if descendant in self._waiting and descendant in self.graph.descendants(stage):
                    self._waiting.remove(descendant)
                    self.board.set_state(descendant, "skipped", f"needs {stage}")
            return
        self._done.add(stage)
        if result == "unchanged":
            self._unchanged.add(stage)
        note = "outputs taken from DVC's run cache" if result == "restored" else ""
        self.board.set_state(stage, "done" if result == "done" else "cached", note)

    def skip_rest(self) -> None:
        """Mark all stages that have not started as skipped."""
        for stage in self._waiting:
            self.board.set_state(stage, "skipped")
        self._waiting.clear()

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Inside the block, SIGINT and SIGTERM ask the running stages to end; a second signal kills them."""

        def stop(number: int, frame: FrameType | None) -> None:
            is_second = self.stopped
            self.stop_signal = self.stop_signal or number
            self.stop_event.set()
            self._processes.stop(now=is_second)

        old_handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old_handlers.items():
                signal.signal(number, handler)

    def close(self) -> None:
        """Ask every stage that still runs to end. Stages still run only after a fault of the orchestration itself."""
        self._processes.stop()
