"""`burnish run`: brings the stages up to date and reports the result."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.orchestration.board import Board, make_board
from pipeline.orchestration.graph import read_graph
from pipeline.orchestration.lockfile import order_entries, remember_entries
from pipeline.orchestration.results import has_burnish_stages, print_results, print_warnings
from pipeline.orchestration.run_lock import exclusive_run
from pipeline.orchestration.run_state import RunState
from pipeline.orchestration.server import prefect_server
from pipeline.orchestration.server_settings import configure_prefect
from pipeline.orchestration.stale_data import check_data_not_older
from pipeline.project import exit_codes
from pipeline.project.git import git_problem
from pipeline.project.root import log_path
from pipeline.show.console import stdout_console
from stages.types import UserError


def run(root: Path, targets: Sequence[str], force: Sequence[str], jobs: int) -> int:
    """Bring the targets up to date, show the state of each stage, then print the metrics.

    Args:
        root: root of the project.
        targets: names of stages or of matrices. Empty: all stages.
        force: names of stages to run even if nothing changed.
        jobs: how many stages may run at once.

    Returns:
        The exit code: 0; 1 if a stage failed; 130 or 143 if SIGINT or SIGTERM ended the run.

    Raises:
        UserError: no stage could start.
    """
    _check_before(root)
    with exclusive_run(root):
        graph = read_graph(root, targets, force)
        check_data_not_older(root, graph.changed_data)
        board = make_board(graph.order, stdout_console())
        with board:
            state = RunState(root, graph, board)
            if state.pending():
                _run_stages(state, jobs)
        return _print_result(state, board, whole=not targets)


def _check_before(root: Path) -> None:
    """Check what the whole run needs before any stage runs, unless the stages of dvc.yaml are not those of Burnish.

    Raises:
        UserError: params.yaml is not valid; there is no git repository with a commit, which DVC needs.
    """
    if not has_burnish_stages(root):
        return
    from pipeline.project.params import load_params

    load_params()
    problem = git_problem(root)
    if problem and problem.kind != "refused":
        raise UserError(str(problem))


def _run_stages(state: RunState, jobs: int) -> None:
    """Run the pending stages. Prefect is imported only here, because its import and its start take seconds."""
    root, board = state.root, state.board
    remember_entries(root)
    with state.signals():
        board.set_title("starting Prefect; the output of the stages goes to data/logs/")
        configure_prefect(root)
        from pipeline.orchestration.flow import run_flow

        try:
            with prefect_server(root, state.stop_event):
                if not state.stopped:
                    board.set_title("")
                    run_flow(state, jobs)
        finally:
            state.close()
            state.skip_rest()
            order_entries(root, state.graph.order, finished=state.finished)


def _print_result(state: RunState, board: Board, *, whole: bool) -> int:
    """Print the result below the table of stages, and return the exit code."""
    if state.stopped:
        name = signal.Signals(state.stop_signal or signal.SIGINT).name
        print(f"burnish: interrupted ({name}); `burnish run` continues where it stopped", file=sys.stderr)
        return exit_codes.TERMINATED if state.stop_signal == signal.SIGTERM else exit_codes.INTERRUPTED
    print_warnings(state.root, state.succeeded())
    if state.failures:
        for stage, message in state.failures.items():
            log = log_path(Path(), stage)
            print(f"burnish: error: {stage}: {message} (log: {log})", file=sys.stderr)
        return exit_codes.FAILED
    ran, total = board.count("done"), len(state.graph.order)
    print(
        f"\n{total} stages up to date, {ran} of them run now" if ran else f"\nnothing to do: {total} stages up to date"
    )
    print_results(state.root, state.graph, whole=whole)
    return exit_codes.OK
