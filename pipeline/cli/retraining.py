"""`burnish retrain` and `rollback`: new images, and the champion."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.faults import faults_in_one_line
from pipeline.cli.manual import MAIN, command

Once = Annotated[bool, typer.Option("--once", help="Now, once, here; no server is needed.")]
Every = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Again and again, so far apart: [cyan]90s[/cyan], [cyan]30m[/cyan], [cyan]2h[/cyan], [cyan]1d[/cyan].",
    ),
]
Cron = Annotated[
    str | None,
    typer.Option(metavar="LINE", help="Again and again, at the times of a cron line: [cyan]'0 2 * * *'[/cyan]."),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="With --once: train though the inbox is empty, to take up new code or parameters."),
]
History = Annotated[bool, typer.Option("--history", help="Print the runs so far, and what became of them.")]
Tag = Annotated[
    str | None,
    typer.Argument(
        metavar="TAG",
        show_default=False,
        help="As [cyan]burnish@v0.2.0[/cyan] or [cyan]v0.2.0[/cyan]. None: the version before.",
    ),
]


@command(MAIN)
def retrain(
    once: Once = False,
    every: Every = None,
    cron: Cron = None,
    force: Force = False,
    history: History = False,
) -> None:
    """Take in new images, train a challenger, and let it replace the champion if the gate lets it pass.

    New images are dropped into the inbox ([cyan]retrain.inbox[/cyan], data/inbox), laid out as data.folder:
    normal/, defect/<type>/, masks/. Each run works in a git worktree of its own; your checkout is never touched. The
    challenger is compared with the champion on the champion's test images. If [cyan]retrain.gate[/cyan] holds it, or
    anything fails, the champion serves on and the images go to data/retrain/held/ or stay in the inbox.

    A promotion is a commit on the branch retrain/DATE, a tag [cyan]burnish@v0.2.0[/cyan] (GTO), and a bundle that
    [bold]burnish predict[/bold] uses from the next moment on. What became of each run: --history, and
    data/retrain/runs/RUN/ (run.md, diff.html, report.html). BURNISH_WEBHOOK_URL, where it is set, is told too.

    Run once with --once, or serve a schedule with --every or --cron: then a Prefect server shows the runs, two are
    never at work at once, and schedules missed are made up for by one run.
    """
    if sum((once, every is not None, cron is not None, history)) != 1:
        raise typer.BadParameter("choose one of --once, --every TIME, --cron LINE, --history")
    if force and not once:
        raise typer.BadParameter("--force goes with --once")
    with faults_in_one_line():
        from pipeline.project.root import enter

        root = enter()
        if history:
            from pipeline.retrain.records import history as runs
            from pipeline.retrain.records import summary

            print("\n".join(map(summary, runs(root))) or "no run yet")
        elif once:
            from pipeline.retrain.once import retrain_once

            retrain_once(root, force=force)
        else:
            from pipeline.retrain.schedule import parse_interval, serve

            serve(root, parse_interval(every) if every else None, cron)


@command(MAIN)
def rollback(tag: Tag = None) -> None:
    """Let an earlier champion serve again, from one moment to the next.

    Images that were taken in since lie in data/retrain/taken/: the next challenger is made without them, so put what is
    good of them back into the inbox.
    """
    with faults_in_one_line():
        from pipeline.project.root import enter
        from pipeline.retrain.rollback import rollback as roll_back

        print(f"{roll_back(enter(), tag)} serves")
