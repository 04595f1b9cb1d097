"""`burnish bundle`: makes the bundle of a finished run."""

from __future__ import annotations

from pathlib import Path

from pipeline.bundle.writer import make_bundle
from pipeline.orchestration.graph import read_graph
from pipeline.orchestration.run_lock import exclusive_run
from pipeline.project.git import warn_without_commit
from pipeline.project.params import load_params
from stages.types import UserError


def bundle_finished_run(root: Path, out: Path | None = None) -> Path:
    """Make the bundle of the project in the working directory, and return its folder.

    Raises:
        UserError: a stage is out of date, so the bundle could combine models, thresholds and parameters of different
            runs.
    """
    params = load_params()
    with exclusive_run(root):
        graph = read_graph(root)
        if stale := [stage for stage in graph.order if stage in graph.stale]:
            more = f" and {len(stale) - 5} more" if len(stale) > 5 else ""
            raise UserError(
                f"out of date or never run: {', '.join(stale[:5])}{more}; `burnish run` brings all stages up to date "
                "and makes the bundle"
            )
        folder = make_bundle(params, root, out)
        warn_without_commit(root, "the bundle")
        return folder
