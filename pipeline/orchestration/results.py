"""What `burnish run` prints below the table: warnings, and the results of stages that are up to date.

An earlier run may have left figures, plots and a report of other images. They would be taken for results of this run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.orchestration.graph import StageGraph, read_graph
from pipeline.project.git import warn_without_commit
from pipeline.project.paths import BUNDLE, DATA, METRICS, METRICS_DIR, PLOTS, PROBE, REJECTED, REPORT_BODY
from pipeline.project.stage_warnings import read_warnings
from pipeline.show.console import stdout_console
from stages.types import UserError

SCORE = "score"
"""If this stage is up to date, all files of the bundle are."""


def has_burnish_stages(root: Path) -> bool:
    """Whether dvc.yaml declares the stages of Burnish."""
    return "-m pipeline stage" in (root / "dvc.yaml").read_text("utf-8")


def print_results(root: Path, ran: StageGraph, *, whole: bool) -> None:
    """Print the results, make the bundle, complete the report, and say what to commit, or what is out of date.

    Args:
        root: root of the project. It must be the working directory.
        ran: the graph of this run. All its stages are up to date.
        whole: whether these are all stages of dvc.yaml.
    """
    graph = ran if whole else read_graph(root)
    may_run = () if whole else graph.may_run()
    current = set(graph.order).difference(may_run)
    printers: tuple[tuple[str, Callable[[Path], None]], ...] = (
        (SCORE, _print_metrics),
        ("probe", _print_denoising),
        ("download", _print_rejected),
        (SCORE, _print_plots),
    )
    for stage, printer in printers:
        if stage in current:
            printer(root)
    if SCORE in current and SCORE in ran.order and has_burnish_stages(root):
        _update_bundle(root)
    if "report" in current:
        _complete_report(root)
    if may_run:
        more = f" and {len(may_run) - 3} more" if len(may_run) > 3 else ""
        print(f"out of date: {', '.join(may_run[:3])}{more}. Their results are not shown. `burnish run` runs them")
        return
    pointers = [str(path.relative_to(root)) for path in sorted((root / DATA).glob("*.dvc"))]
    tracked = ["params.yaml", "dvc.lock", str(METRICS_DIR)] if (root / METRICS_DIR).is_dir() else ["dvc.lock"]
    print(f"commit: git add {' '.join([*tracked, *pointers])} && git commit")


def print_warnings(root: Path, stages: Sequence[str]) -> None:
    """Print what stages warn about, those of cached stages too."""
    for stage, line in read_warnings(root, stages):
        print(f"warning: {stage}: {line}")


def _update_bundle(root: Path) -> None:
    """Make the bundle anew if it does not belong to this dvc.lock yet."""
    from pipeline.bundle.writer import is_current, make_bundle

    if not is_current(root):
        from pipeline.project.params import load_params

        make_bundle(load_params(), root)
        warn_without_commit(root, "the bundle")
    print(f"bundle: {BUNDLE}/ (`burnish predict PATH` uses it for new images)")


def _complete_report(root: Path) -> None:
    """Add commit, machine and times of this run to the report, if there is one."""
    if not (root / REPORT_BODY).is_file():
        return
    from pipeline.report.run_facts import write_index

    if page := write_index(root):
        print(f"report: {page.relative_to(root)}")


def _print_metrics(root: Path) -> None:
    """Print the metrics and notes on them."""
    if not (root / METRICS).is_file():
        return
    from pipeline.show.tables import metrics_table

    try:
        metrics = json.loads((root / METRICS).read_text("utf-8"))
    except ValueError as error:
        raise UserError(f"{METRICS} is not JSON ({error}): run `burnish run --force score`") from error
    stdout_console().print(metrics_table(metrics))
    for category, detectors in metrics.items():
        values = next(iter(detectors.values()))
        if values.get("overkill_bound") is not None and has_burnish_stages(root):
            from pipeline.project.params import load_params
            from pipeline.show.promise import promise

            print(f"{category}: {promise(values, load_params().score)}")
        for key in ("threshold_note", "groups_note", "leak_note"):
            for note in sorted({values.get(key) for values in detectors.values()} - {None}):
                print(f"{category}: {note}")


def _print_denoising(root: Path) -> None:
    if (root / PROBE / "probe.json").is_file():
        from pipeline.show.denoising import denoising_lines

        for line in denoising_lines(json.loads((root / PROBE / "probe.json").read_text("utf-8"))):
            print(line)


def _print_rejected(root: Path) -> None:
    if (root / REJECTED).is_file() and (count := (root / REJECTED).read_text("utf-8").count("\n") - 1):
        print(f"rejected images: {count}; {REJECTED} gives the reasons")


def _print_plots(root: Path) -> None:
    if (root / PLOTS).is_dir():
        print(f"plots:  {PLOTS}/")
