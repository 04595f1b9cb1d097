"""`burnish bundle`: the bundle of a finished run."""

from __future__ import annotations

from pathlib import Path

from pipeline.bundle.writer import make_bundle
from pipeline.orchestration.graph import read_graph
from pipeline.orchestration.run_lock import only_run
from pipeline.project.params import load_params
from stages.types import UserError


def bundle_finished(root: Path, out: Path | None = None) -> Path:
    """`make_bundle` of the project in the working directory, once it is sure that all belongs together.

    Raises:
        UserError: a stage is out of date: its models would not be those of the thresholds or the parameters.
    """
    params = load_params()
    with only_run(root):
        graph = read_graph(root)
        if stale := [stage for stage in graph.order if stage in graph.stale]:
            more = f" and {len(stale) - 5} more" if len(stale) > 5 else ""
            raise UserError(
                f"out of date or never run: {', '.join(stale[:5])}{more}; `burnish run` brings all up to date and "
                "makes the bundle"
            )
        return make_bundle(params, root, out)
