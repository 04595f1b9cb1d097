"""The typer application, its manual, and how a command joins it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from pipeline.project import exit_codes

MANUAL = """
Reproducible visual inspection: good images in; a calibrated detector and an honest score out.

The stages stand in [cyan]dvc.yaml[/cyan], their parameters in [cyan]params.yaml[/cyan]. [bold]burnish run[/bold] runs
what is out of date, in the order that DVC gives, and leaves the same [cyan]dvc.lock[/cyan] as plain
[bold]dvc repro[/bold]. It may be stopped at any time; the next run goes on from what was done.

Each command works in the project around the working directory: the nearest folder that holds a dvc.yaml.
"""

EPILOG = """
[bold]Examples[/bold]

[green]burnish run[/green]                        bring everything up to date

[green]burnish run --jobs 2[/green]               two stages side by side where the graph allows

[green]burnish run train@mono-pca[/green]         one stage and what it needs

[green]burnish run --force score[/green]          run a stage though nothing changed

[green]burnish predict photos/[/green]            judge new images

[green]burnish diff HEAD~1 HEAD[/green]           is this commit better than the last one?

[green]burnish retrain --every 30m[/green]        take in new images, train, promote what is no worse

[green]burnish doctor[/green]                     what is wrong with this machine or this set-up, and how to mend it

[bold]Exit codes[/bold]

0 all went well;  1 a fault, in one line on stderr;  2 wrong usage;  3 defects (predict), a broken gate (diff);  130
Ctrl-C;  143 SIGTERM (0 for ui and a retraining schedule, which end so)

[bold]Files[/bold]

data/logs/STAGE.log: output of a stage's latest run;  data/metrics/metrics.json: the figures;  .prefect/: Prefect's own

data/report/index.html: all of a run as one page;  data/bundle/: what judging new images needs;  data/judged/: what it
said;  data/champion/, data/retrain/: what retraining promoted, and how each of its runs went
"""


def paragraphs(text: str) -> str:
    """One line a paragraph: typer keeps line breaks inside a paragraph, at whatever width the terminal has."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


app = typer.Typer(
    name="burnish",
    help=paragraphs(MANUAL),
    epilog=EPILOG,
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

MAIN = "Main commands"
INSPECT = "Inspect"
INTERNAL = "Internal"


def command(panel: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command, with its docstring as its help."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        return app.command(rich_help_panel=panel, help=paragraphs(function.__doc__ or ""))(function)

    return register


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"burnish {version('burnish')}")
        raise typer.Exit(exit_codes.OK)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass
