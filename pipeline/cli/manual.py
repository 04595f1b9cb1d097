"""The typer application, its manual, and the decorator that adds a command to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from pipeline.project import exit_codes

MANUAL = """
Reproducible visual inspection. Trains defect detectors on images of good parts, sets a threshold, and reports how many
defects it lets through and how many good parts it rejects.

[cyan]dvc.yaml[/cyan] lists the stages, [cyan]params.yaml[/cyan] their parameters. [bold]burnish run[/bold] runs the
stages that are out of date, in DVC's order, and writes the same [cyan]dvc.lock[/cyan] as [bold]dvc repro[/bold]. You
can stop it at any time: the next run continues where it stopped.

Each command works in the project that contains the working directory: the nearest folder with a dvc.yaml.
"""

EPILOG = """
[bold]Examples[/bold]
[green]burnish run[/green]                  bring all stages up to date
[green]burnish run --jobs 2[/green]         run up to two stages at once
[green]burnish run train@mono-pca[/green]   run one stage and the stages that it needs
[green]burnish run --force score[/green]    run a stage even if nothing changed
[green]burnish predict photos/[/green]      find defects in new images
[green]burnish diff HEAD~1 HEAD[/green]     compare this commit with the commit before it
[green]burnish retrain --every 30m[/green]  train with new images on a schedule
[green]burnish doctor[/green]               look for faults of this machine and project

[bold]Exit codes[/bold]
  0  success; [bold]ui[/bold] and a retraining schedule also end with 0 after a signal
  1  error, explained in one line on stderr
  2  wrong usage
  3  defects found (predict --fail-on-defect), or gate violated (diff --gate)
130  Ctrl-C
143  SIGTERM

[bold]Files[/bold]
data/logs/STAGE.log         output of the latest run of a stage
data/metrics/metrics.json   metrics
data/report/index.html      report of the run
data/bundle/                models of the latest run, for [bold]burnish predict[/bold]
data/judged/                results of [bold]burnish predict[/bold]
data/champion/              models that retraining promoted
data/retrain/               records of retraining
.prefect/                   files of Prefect
"""


def paragraphs(text: str) -> str:
    """The text with one line per paragraph, because typer keeps line breaks at any width of the terminal."""
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


def command(
    panel: str | None = None, application: typer.Typer = app, name: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that adds a command. The docstring of the function is its help text.

    Args:
        panel: heading in `--help` under which the command is listed.
        application: the application, or the group of commands, that gets the command.
        name: name of the command. Default: that of the function.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        help_text = paragraphs(function.__doc__ or "")
        return application.command(name, rich_help_panel=panel, help=help_text)(function)

    return register


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"burnish {version('burnish')}")
        raise typer.Exit(exit_codes.OK)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass
