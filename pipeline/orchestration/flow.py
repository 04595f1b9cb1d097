"""The flow: when each stage runs, what runs side by side, what is tried again. DVC says what depends on what."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import httpx
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from pipeline.orchestration.artifacts import note, publish
from pipeline.orchestration.work import Failure, TryAgain, Work
from stages.types import UserError


def run_flow(work: Work, jobs: int) -> None:
    """Run the stages of `work` that may have to, at most `jobs` at once. How each ended stands in `work` afterwards."""

    ended: list[bool] = []

    @task(
        task_run_name="{stage}",
        retries=work.retries,
        retry_condition_fn=_may_pass,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run_stage(stage: str) -> str:
        context = TaskRunContext.get()
        return work.attempt(stage, context.task_run.run_count if context else 1)

    @flow(
        name="burnish run",
        flow_run_name=_name(work.pending()),
        task_runner=cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=jobs)),
        validate_parameters=False,
        persist_result=False,
    )
    def burnish_run(stages: list[str], jobs: int) -> State[Any]:
        with work.signals():  # here too, because Prefect takes SIGTERM for itself while a flow runs
            _run_in_order(work, jobs, run_stage.submit)
            publish(work)
        ended.append(True)
        if work.stopped:
            return Cancelled(message="interrupted")
        if work.failures:
            return Failed(message="; ".join(f"{stage}: {why}" for stage, why in work.failures.items()))
        return Completed(message=f"{len(stages)} stages")

    try:
        burnish_run(list(work.pending()), jobs, return_state=True)
    except (httpx.TransportError, RuntimeError) as error:  # what Prefect raises where its server is gone
        if not ended:
            raise UserError(f"Prefect gave up before the stages had ended ({error}): run again") from error
        note(work.root, f"Prefect was not told how the run ended: {error!r}")


def _run_in_order(work: Work, jobs: int, submit: Callable[..., PrefectFuture[str]]) -> None:
    """Start stages in DVC's order as soon as their parents are done, until nothing runs and nothing can start."""
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()
    running: dict[str, PrefectFuture[str]] = {}
    done: dict[str, PrefectFuture[str]] = {}
    while True:
        for stage in work.ready()[: jobs - len(running)]:
            work.start(stage)
            # Nothing to wait for: all of these have ended. It makes Prefect draw the edges.
            parents = [done[parent] for parent in work.graph.parents[stage] if parent in done]
            running[stage] = submit(stage, wait_for=parents)
            running[stage].add_done_callback(partial(_put, ended, stage))
        if not running:
            return
        stage = ended.get()
        done[stage] = running.pop(stage)
        work.finish(stage, _result(done[stage]))


def _put(ended: queue.SimpleQueue[str], stage: str, future: PrefectFuture[str]) -> None:
    ended.put(stage)


def _name(stages: Sequence[str]) -> str:
    """What the run is called in Prefect's lists: its stages, the first of them where there are many."""
    return ", ".join(stages) if len(stages) <= 3 else f"{stages[0]}, {stages[1]} and {len(stages) - 2} more"


def _result(future: PrefectFuture[str]) -> str | BaseException:
    """What a task returned or raised."""
    value = future.result(raise_on_failure=False)
    return value if isinstance(value, str | BaseException) else Failure(f"Prefect lost this task: {value!r}")


def _may_pass(task: Any, task_run: Any, state: State[Any]) -> bool:
    """Whether to try a stage again: after a lock conflict or a transient download, never after anything else."""
    return isinstance(state.result(raise_on_failure=False), TryAgain)
