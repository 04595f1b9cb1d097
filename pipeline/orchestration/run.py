"""`burnish run`: brings the stages up to date and reports the result."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.orchestration.board import Board, make_board
from pipeline.orchestration.graph import read_graph
from pipeline.orchestration.lockfile import order_entries, remember_entries
from pipeline.orchestration.run_lock import exclusive_run
from pipeline.orchestration.run_state import RunState
from pipeline.orchestration.server import prefect_server
from pipeline.orchestration.server_settings import configure_prefect
from pipeline.orchestration.stale_data import check_data_not_older
from pipeline.project import exit_codes
from pipeline.project.paths import BUNDLE, DATA, METRICS, METRICS_DIR, PLOTS, PROBE, REJECTED, REPORT_BODY
from pipeline.project.root import log_path
from pipeline.show.console import stdout_console
from stages.types import UserError

SCORE = "score"
"""If this stage is up to date, all files of the bundle are."""


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
    _check_params(root)
    with exclusive_run(root):
        graph = read_graph(root, targets, force)
        check_data_not_older(root, graph.changed_data)
        board = make_board(graph.order, stdout_console())
        with board:
            state = RunState(root, graph, board)
            if state.pending():
                _run_stages(state, jobs)
        return _print_result(state, board)


def _check_params(root: Path) -> None:
    """Check params.yaml before any stage runs, unless the stages of dvc.yaml are not those of Burnish.

    Raises:
        UserError: params.yaml is not valid.
    """
    if _has_burnish_stages(root):
        from pipeline.project.params import load_params

        load_params()


def _has_burnish_stages(root: Path) -> bool:
    return "-m pipeline stage" in (root / "dvc.yaml").read_text("utf-8")


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


def _print_result(state: RunState, board: Board) -> int:
    """Print the result below the table of stages, and return the exit code."""
    if state.stopped:
        name = signal.Signals(state.stop_signal or signal.SIGINT).name
        print(f"burnish: interrupted ({name}); `burnish run` continues where it stopped", file=sys.stderr)
        return exit_codes.TERMINATED if state.stop_signal == signal.SIGTERM else exit_codes.INTERRUPTED
    if state.failures:
        for stage, message in state.failures.items():
            log = log_path(Path(), stage)
            print(f"burnish: error: {stage}: {message} (log: {log})", file=sys.stderr)
        return exit_codes.FAILED
    ran, total = board.count("done"), len(state.graph.order)
    print(
        f"\n{total} stages up to date, {ran} of them run now" if ran else f"\nnothing to do: {total} stages up to date"
    )
    _print_metrics(state.root)
    _update_bundle(state)
    _complete_report(state.root)
    pointers = [str(path.relative_to(state.root)) for path in sorted((state.root / DATA).glob("*.dvc"))]
    tracked = ["params.yaml", "dvc.lock", str(METRICS_DIR)] if (state.root / METRICS_DIR).is_dir() else ["dvc.lock"]
    print(f"commit: git add {' '.join([*tracked, *pointers])} && git commit")
    return exit_codes.OK


def _update_bundle(state: RunState) -> None:
    """Make the bundle anew if all its files are up to date and it does not belong to this dvc.lock yet."""
    from pipeline.bundle.writer import is_current, make_bundle

    root = state.root
    if SCORE not in state.graph.order or not _has_burnish_stages(root):
        return
    if not is_current(root):
        from pipeline.project.params import load_params

        make_bundle(load_params(), root)
    print(f"bundle: {BUNDLE}/ (`burnish predict PATH` uses it for new images)")


def _complete_report(root: Path) -> None:
    """Add commit, machine and times of this run to the report, if there is one."""
    if not (root / REPORT_BODY).is_file():
        return
    from pipeline.report.run_facts import write_index

    if page := write_index(root):
        print(f"report: {page.relative_to(root)}")


def _print_metrics(root: Path) -> None:
    """Print the metrics, notes on them, and the folder of the plots, as far as these exist."""
    if (root / METRICS).is_file():
        from pipeline.show.tables import metrics_table

        try:
            metrics = json.loads((root / METRICS).read_text("utf-8"))
        except ValueError as error:
            raise UserError(f"{METRICS} is not JSON ({error}): run `burnish run --force score`") from error
        stdout_console().print(metrics_table(metrics))
        for category, detectors in metrics.items():
            for key in ("threshold_note", "leak_note"):
                for note in sorted({values.get(key) for values in detectors.values()} - {None}):
                    print(f"{category}: {note}")
    if (root / PROBE / "probe.json").is_file():
        from pipeline.show.denoising import denoising_lines

        for line in denoising_lines(json.loads((root / PROBE / "probe.json").read_text("utf-8"))):
            print(line)
    if (root / REJECTED).is_file() and (count := (root / REJECTED).read_text("utf-8").count("\n") - 1):
        print(f"rejected images: {count}; {REJECTED} gives the reasons")
    if (root / PLOTS).is_dir():
        print(f"plots:  {PLOTS}/")
