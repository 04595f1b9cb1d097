"""The Prefect flow that a schedule starts. It runs in its own process, in the project's root."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from pipeline.project.params import load_params
from pipeline.project.root import find_root
from pipeline.retrain.once import retrain_once
from pipeline.retrain.promotion import AlreadyRunning
from pipeline.retrain.records import history, is_superseded, markdown, run_folder
from stages.types import UserError

RETRY_DELAY_S = 60


@task(name="retrain", persist_result=False)
def _retrain(root: Path) -> dict[str, Any]:
    return retrain_once(root).to_json()


@flow(name="burnish-retrain", persist_result=False, validate_parameters=False)
def retrain_flow() -> State[Any]:
    """One scheduled run: the same as `burnish retrain --once`, and again if it failed (`retrain.retries`)."""
    root = find_root()
    now = datetime.now(UTC)
    if is_superseded(history(root), runtime.flow_run.scheduled_start_time, now):
        return Completed(message="skipped: this run is late, and another run has started since")
    retrain = _retrain.with_options(retries=load_params().retrain.retries, retry_delay_seconds=RETRY_DELAY_S)
    try:
        run = retrain(root)
    except AlreadyRunning as fault:
        return Cancelled(message=str(fault))
    except UserError as fault:
        return Failed(message=str(fault))
    _publish(root, run)
    return Completed(message=f"{run['result']}: {run['reason']}")


def _publish(root: Path, run: dict[str, Any]) -> None:
    """Show the run and the comparison on Prefect's page."""
    from prefect.artifacts import create_markdown_artifact

    diff = run_folder(root, run["id"]) / "diff.md"
    text = markdown(run) + ("\n" + diff.read_text("utf-8") if diff.is_file() else "")
    create_markdown_artifact(text, key="retrain", description=f"retraining {run['id']}")
