"""The state of a run: which stages can start, and what follows from the end of a stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.orchestration.board import PlainBoard
from pipeline.orchestration.graph import StageGraph
from pipeline.orchestration.outcome import Outcome
from pipeline.orchestration.run_state import RetryableFailure, RunState, StageFailure


class GivenOutcomes:
    """Stands for `StageProcesses`: returns the outcomes that a test wants, and records its calls."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[tuple[str, bool, bool]] = []

    def run(self, stage: str, log: Path, *, force: bool, again: bool) -> Outcome:
        self.calls.append((stage, force, again))
        return self.outcomes.pop(0)


def state_with(*outcomes: Outcome) -> tuple[RunState, GivenOutcomes]:
    """A run of a -> b -> c and d. a is stale, d is stale and forced."""
    order = ("a", "b", "c", "d")
    parents: dict[str, tuple[str, ...]] = {"a": (), "b": ("a",), "c": ("b",), "d": ()}
    graph = StageGraph(order, parents, stale=frozenset({"a", "d"}), forced=frozenset({"d"}))
    state = RunState(Path(), graph, PlainBoard(order), retry_delays_s=(0.0, 0.0))
    state._processes = processes = GivenOutcomes(*outcomes)  # type: ignore[assignment]
    return state, processes


@pytest.mark.parametrize("kind", ["locked", "transient"])
def test_only_some_failures_are_retryable(kind: str) -> None:
    outcomes = (Outcome(kind, "busy"), Outcome("failed", "bad"), Outcome("done"))  # type: ignore[arg-type]
    state, processes = state_with(*outcomes)
    with pytest.raises(RetryableFailure, match="busy"):
        state.attempt("a", 1)
    with pytest.raises(StageFailure, match="bad") as caught:
        state.attempt("a", 2)
    assert not isinstance(caught.value, RetryableFailure)
    assert state.attempt("d", 1) == "done"
    assert processes.calls == [("a", False, False), ("a", False, True), ("d", True, False)]
    state.stop_event.set()
    with pytest.raises(StageFailure, match="interrupted"):
        state.attempt("a", 1)


def test_children_of_an_unchanged_stage_need_no_process() -> None:
    state, _ = state_with()
    assert state.pending() == ("a", "b", "c", "d")
    assert state.ready() == ["a", "d"]
    state.start("a")
    assert state.ready() == ["d"]
    state.finish("a", "unchanged")
    assert state.ready() == ["d"]  # b and c were pending only because of a
    assert [state.board.rows[stage].state for stage in "abc"] == ["cached"] * 3
    state.start("d")
    state.finish("d", "restored")
    assert state.finished


def test_children_of_a_failed_stage_are_skipped() -> None:
    state, _ = state_with()
    state.start("a")
    state.finish("a", "restored")
    assert state.ready() == ["b", "d"]  # restored outputs may differ from the outputs before the run
    state.start("b")
    state.finish("b", StageFailure("bad"))
    assert state.board.rows["c"].state == "skipped"
    assert state.failures == {"b": "bad"}
    assert state.ready() == ["d"]
    assert not state.finished
