"""`burnish run`: bring the stages up to date and say how it went."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.orchestration import server
from pipeline.orchestration.board import Board, board_for
from pipeline.orchestration.graph import read_graph
from pipeline.orchestration.lockfile import order_entries, remember_entries
from pipeline.orchestration.run_lock import only_run
from pipeline.orchestration.stale_data import check_data_not_older
from pipeline.orchestration.work import Work
from pipeline.project import exit_codes
from pipeline.project.paths import BUNDLE, DATA, METRICS, METRICS_DIR, PLOTS, PROBE, REJECTED, REPORT_BODY
from pipeline.project.root import log_path
from pipeline.show.console import stdout_console
from stages.types import UserError

SCORE = "score"
"""The stage that is up to date only when all of the bundle is."""


def run(root: Path, targets: Sequence[str], force: Sequence[str], jobs: int) -> int:
    """Bring targets (none: everything) up to date, and print a table of it, then the metrics.

    Returns:
        exit code: 0; 1 where a stage failed; 130 or 143 where a signal ended the run.

    Raises:
        UserError: nothing could start.
    """
    _check_params(root)
    with only_run(root):
        graph = read_graph(root, targets, force)
        check_data_not_older(root, graph.changed_data)
        board = board_for(graph.order, stdout_console())
        with board:
            work = Work(root, graph, board)
            if work.pending():
                _orchestrate(work, jobs)
        return _report(work, board)


def _check_params(root: Path) -> None:
    """Say now what a stage would refuse only once it runs. Stages of another make have parameters of their own."""
    if _ours(root):
        from pipeline.project.params import load_params

        load_params()


def _ours(root: Path) -> bool:
    return "-m pipeline stage" in (root / "dvc.yaml").read_text("utf-8")


def _orchestrate(work: Work, jobs: int) -> None:
    """Everything that needs Prefect, which takes seconds to import and to start, is imported here."""
    root, board = work.root, work.board
    remember_entries(root)
    with work.signals():
        board.say("starting Prefect; what the stages say goes to data/logs/")
        server.configure(root)
        from pipeline.orchestration.flow import run_flow

        try:
            with server.prefect_server(root, work.stop_event):
                if not work.stopped:
                    board.say("")
                    run_flow(work, jobs)
        finally:
            work.close()
            work.skip_rest()
            order_entries(root, work.graph.order, finished=work.finished)


def _report(work: Work, board: Board) -> int:
    """Print what follows the table of stages; return the exit code."""
    if work.stopped:
        name = signal.Signals(work.stop_signal or signal.SIGINT).name
        print(f"burnish: interrupted ({name}); `burnish run` goes on from what was done", file=sys.stderr)
        return exit_codes.TERMINATED if work.stop_signal == signal.SIGTERM else exit_codes.INTERRUPTED
    if work.failures:
        for stage, why in work.failures.items():
            log = log_path(Path(), stage)
            print(f"burnish: error: {stage}: {why} (log: {log})", file=sys.stderr)
        return exit_codes.FAILED
    ran, total = board.count("done"), len(work.graph.order)
    print(
        f"\n{total} stages up to date, {ran} of them run now" if ran else f"\nnothing to do: {total} stages up to date"
    )
    _show_metrics(work.root)
    _renew_bundle(work)
    _finish_report(work.root)
    pointers = [str(path.relative_to(work.root)) for path in sorted((work.root / DATA).glob("*.dvc"))]
    tracked = ["params.yaml", "dvc.lock", str(METRICS_DIR)] if (work.root / METRICS_DIR).is_dir() else ["dvc.lock"]
    print(f"commit: git add {' '.join([*tracked, *pointers])} && git commit")
    return exit_codes.OK


def _renew_bundle(work: Work) -> None:
    """Make the bundle where all that it holds is up to date now, and it is not of this dvc.lock."""
    from pipeline.bundle.writer import is_current, make_bundle

    root = work.root
    if SCORE not in work.graph.order or not _ours(root):
        return
    if not is_current(root):
        from pipeline.project.params import load_params

        make_bundle(load_params(), root)
    print(f"bundle: {BUNDLE}/ (`burnish predict PATH` judges new images with it)")


def _finish_report(root: Path) -> None:
    """Tell the report, where there is one, of the commit and the times of this run."""
    if not (root / REPORT_BODY).is_file():
        return
    from pipeline.report.circumstances import finish

    if page := finish(root):
        print(f"report: {page.relative_to(root)}")


def _show_metrics(root: Path) -> None:
    """The metrics table, and where plots lie, as far as there are any."""
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
        print(f"rejected images: {count}, with the reasons in {REJECTED}")
    if (root / PLOTS).is_dir():
        print(f"plots:  {PLOTS}/")
