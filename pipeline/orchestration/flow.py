"""The Prefect flow of a run: when each stage starts, which stages run side by side, and which are retried.

The dependencies between stages come from DVC.
"""

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

from pipeline.orchestration.artifacts import log_fault, publish
from pipeline.orchestration.run_state import RetryableFailure, RunState, StageFailure
from stages.types import UserError


def run_flow(run: RunState, jobs: int) -> None:
    """Run the pending stages of `run`, at most `jobs` at once. Afterwards `run` holds how each stage ended.

    Raises:
        UserError: the Prefect server failed before all stages had ended.
    """
    all_stages_ended = False

    @task(
        task_run_name="{stage}",
        retries=run.retries,
        retry_condition_fn=_is_retryable,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def run_stage(stage: str) -> str:
        context = TaskRunContext.get()
        return run.attempt(stage, context.task_run.run_count if context else 1)

    @flow(
        name="burnish run",
        flow_run_name=_run_name(run.pending()),
        task_runner=cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=jobs)),
        validate_parameters=False,
        persist_result=False,
    )
    def burnish_run(stages: list[str], jobs: int) -> State[Any]:
        nonlocal all_stages_ended
        with run.signals():  # again here, because Prefect installs a handler of SIGTERM while a flow runs
            _run_in_order(run, jobs, run_stage.submit)
            publish(run)
        all_stages_ended = True
        if run.stopped:
            return Cancelled(message="interrupted")
        if run.failures:
            return Failed(message="; ".join(f"{stage}: {message}" for stage, message in run.failures.items()))
        return Completed(message=f"{len(stages)} stages")

    try:
        burnish_run(list(run.pending()), jobs, return_state=True)
    except (httpx.TransportError, RuntimeError) as error:  # Prefect cannot reach its server
        if not all_stages_ended:
            raise UserError(f"Prefect gave up before the stages had ended ({error}): run again") from error
        log_fault(run.root, f"Prefect was not told how the run ended: {error!r}")


def _run_in_order(run: RunState, jobs: int, submit: Callable[..., PrefectFuture[str]]) -> None:
    """Start stages in DVC's order as soon as their parents are done, until no stage runs and none can start."""
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()
    running: dict[str, PrefectFuture[str]] = {}
    done: dict[str, PrefectFuture[str]] = {}
    while True:
        for stage in run.ready()[: jobs - len(running)]:
            run.start(stage)
            # All parents have ended, so the task waits for nothing. Prefect takes the edges of its graph from it.
            parents = [done[parent] for parent in run.graph.parents[stage] if parent in done]
            running[stage] = submit(stage, wait_for=parents)
            running[stage].add_done_callback(partial(_put_stage, ended, stage))
        if not running:
            return
        stage = ended.get()
        done[stage] = running.pop(stage)
        run.finish(stage, _task_result(done[stage]))


def _put_stage(ended: queue.SimpleQueue[str], stage: str, future: PrefectFuture[str]) -> None:
    ended.put(stage)


def _run_name(stages: Sequence[str]) -> str:
    """The name of the run in Prefect's lists: its stages, or the first two of more than three."""
    return ", ".join(stages) if len(stages) <= 3 else f"{stages[0]}, {stages[1]} and {len(stages) - 2} more"


def _task_result(future: PrefectFuture[str]) -> str | BaseException:
    """The value that a task returned, or the exception that it raised."""
    value = future.result(raise_on_failure=False)
    return value if isinstance(value, str | BaseException) else StageFailure(f"Prefect lost this task: {value!r}")


def _is_retryable(task: Any, task_run: Any, state: State[Any]) -> bool:
    """Whether Prefect retries a stage: only after a lock conflict, or after a download that may succeed later."""
    return isinstance(state.result(raise_on_failure=False), RetryableFailure)
