"""`burnish retrain` and `rollback`: train with new images, and replace or restore the champion."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.faults import faults_in_one_line
from pipeline.cli.manual import MAIN, command

Once = Annotated[bool, typer.Option("--once", help="Run once in this process, then exit.")]
Every = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Run at this interval: [cyan]90s[/cyan], [cyan]30m[/cyan], [cyan]2h[/cyan], [cyan]1d[/cyan].",
    ),
]
Cron = Annotated[
    str | None,
    typer.Option(metavar="LINE", help="Run at the times of a cron expression, such as [cyan]'0 2 * * *'[/cyan]."),
]
Timezone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Time zone of [cyan]--cron[/cyan], such as [cyan]Asia/Tokyo[/cyan]. Default: that of this machine.",
        show_default=False,
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="With --once: train even if the inbox is empty, to use new code or parameters."),
]
History = Annotated[bool, typer.Option("--history", help="Print the runs so far and the result of each.")]
Tag = Annotated[
    str | None,
    typer.Argument(
        metavar="TAG",
        show_default=False,
        help="Version to restore, such as [cyan]v0.2.0[/cyan] or [cyan]burnish@v0.2.0[/cyan]. Default: the previous "
        "version.",
    ),
]


@command(MAIN)
def retrain(
    once: Once = False,
    every: Every = None,
    cron: Cron = None,
    timezone: Timezone = None,
    force: Force = False,
    history: History = False,
) -> None:
    """Train a challenger with new images. It replaces the champion, the models in use, unless the gate is violated.

    Put new images into the inbox ([cyan]retrain.inbox[/cyan], default data/inbox), in the layout of data.folder:
    normal/, defect/<type>/, masks/. A run trains the challenger in a git worktree of its own, so files that git tracks
    in your checkout do not change, and compares it with the champion on the test images that both have with the same
    label.

    The challenger is promoted unless the data shows that it violates the gate ([cyan]retrain.gate[/cyan]: limits on how
    much worse the challenger may be). If the gate cannot be evaluated, it is not promoted. The images of a challenger
    that is not promoted go to data/retrain/held/. If the run fails, they stay in the inbox.

    A promotion makes a commit on the branch retrain/DATE, a tag [cyan]burnish@v0.2.0[/cyan] (GTO), and a bundle that
    [bold]burnish predict[/bold] uses from then on. [cyan]--history[/cyan] and data/retrain/runs/RUN/ (run.md,
    diff.html, report.html) show the result of each run. If BURNISH_WEBHOOK_URL is set, the result is also sent to it.

    Run once with [cyan]--once[/cyan], or on a schedule with [cyan]--every[/cyan] or [cyan]--cron[/cyan]. With a
    schedule, a Prefect server shows the runs. Two runs never work at once, and if several scheduled times were missed,
    one run replaces them.
    """
    if sum((once, every is not None, cron is not None, history)) != 1:
        raise typer.BadParameter("choose one of --once, --every TIME, --cron LINE, --history")
    if force and not once:
        raise typer.BadParameter("--force needs --once")
    if timezone and cron is None:
        raise typer.BadParameter("--timezone needs --cron")
    with faults_in_one_line():
        from pipeline.project.root import chdir_to_project_root

        root = chdir_to_project_root()
        if history:
            from pipeline.retrain.records import history as runs
            from pipeline.retrain.records import summary

            print("\n".join(map(summary, runs(root))) or "no run yet")
        elif once:
            from pipeline.retrain.once import retrain_once

            retrain_once(root, force=force)
        else:
            from pipeline.retrain.schedule import parse_interval, serve

            serve(root, parse_interval(every) if every else None, cron, timezone)


@command(MAIN)
def rollback(tag: Tag = None) -> None:
    """Restore an earlier champion.

    [bold]burnish predict[/bold] uses it from then on. Images that were added since that version are in
    data/retrain/taken/. The next challenger is trained without them, so put those that you want back into the inbox.
    """
    with faults_in_one_line():
        from pipeline.project.root import chdir_to_project_root
        from pipeline.retrain.rollback import rollback as roll_back

        print(f"{roll_back(chdir_to_project_root(), tag)} is the champion now")
