"""The options of `burnish retrain` and `burnish rollback`."""

from __future__ import annotations

from typing import Annotated

import typer

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
