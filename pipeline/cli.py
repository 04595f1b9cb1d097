"""The `burnish` command. Heavy imports (DVC, Prefect, torch) happen inside the commands that need them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from pipeline import exit_codes

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

[green]burnish doctor[/green]                     what is wrong with this machine or this set-up, and how to mend it

[bold]Exit codes[/bold]

0 all went well;  1 a fault, named in one line on stderr;  2 wrong usage;  130 Ctrl-C;  143 SIGTERM

[bold]Files[/bold]

data/logs/STAGE.log: output of a stage's latest run;  data/metrics/metrics.json: the figures;  .prefect/: Prefect's own
"""


def _paragraphs(text: str) -> str:
    """One line a paragraph: typer keeps line breaks inside a paragraph, at whatever width the terminal has."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


app = typer.Typer(
    name="burnish",
    help=_paragraphs(MANUAL),
    epilog=EPILOG,
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DAILY = "Every day"
LOOK = "Look"
INNER = "For dvc.yaml"


def _command(panel: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command, with its docstring as its help."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        return app.command(rich_help_panel=panel, help=_paragraphs(function.__doc__ or ""))(function)

    return register


@contextlib.contextmanager
def _faults_in_one_line() -> Iterator[None]:
    """What the user can mend is one line on stderr and exit code 1; Ctrl-C is exit code 130."""
    from stages.types import UserError

    try:
        yield
    except UserError as error:
        print(f"burnish: error: {error}", file=sys.stderr)
        raise typer.Exit(exit_codes.FAILED) from None
    except KeyboardInterrupt:
        print("burnish: interrupted", file=sys.stderr)
        raise typer.Exit(exit_codes.INTERRUPTED) from None


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


@_command(DAILY)
def run(
    targets: Annotated[
        list[str] | None,
        typer.Argument(metavar="TARGETS", help="Stages to bring up to date, with all they need. None: all."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="How many stages may run at once.")] = 1,
    force: Annotated[
        list[str] | None,
        typer.Option("--force", "-f", metavar="STAGE", help="Run this stage though nothing changed. May be repeated."),
    ] = None,
) -> None:
    """Run the stages that are out of date, then print the metrics.

    A stage is out of date when its code, its parameters or its inputs changed since it last ran; DVC knows. The name of
    a matrix stage ([cyan]train[/cyan]) means all its members ([cyan]train@mono-pca[/cyan], ...).

    States: [cyan]cached[/cyan] nothing to do, or taken from DVC's cache; [yellow]running[/yellow]; [green]done[/green];
    [red]failed[/red]; skipped, because it needs one that failed. When a stage fails, those that do not need it still
    run.

    A stage is tried again only when another DVC process holds its files, or when a download failed in a way that may
    pass. With nothing out of date, Prefect is not even started.
    """
    with _faults_in_one_line():
        from pipeline.project import enter
        from pipeline.run import run as run_pipeline

        code = run_pipeline(enter(), targets or [], force or [], jobs)
    raise typer.Exit(code)


@_command(LOOK)
def graph() -> None:
    """Print the graph of the stages, as DVC reads it, as a Mermaid chart."""
    with _faults_in_one_line():
        from pipeline.graph import mermaid, read_graph
        from pipeline.project import enter

        print(mermaid(read_graph(enter(), check=False)), end="")


@_command(LOOK)
def doctor() -> None:
    """Check versions, device, memory, disk, DVC, Prefect, Git and data; say how to mend each fault.

    Each line is [green]ok[/green], [yellow]warn[/yellow] (it works, but) or [red]fault[/red]; exit code 1 if there is a
    fault. Nothing is changed but that Prefect may set up its folder; no server is started.
    """
    with _faults_in_one_line():
        from pipeline.doctor import run_doctor
        from pipeline.project import enter

        code = run_doctor(enter())
    raise typer.Exit(code)


params_app = typer.Typer(
    help="Explain params.yaml, or set the sizes of everything at once.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(params_app, name="params", rich_help_panel=LOOK)


@params_app.command("show")
def show_params(
    key: Annotated[str, typer.Argument(help="A section or a key, as [cyan]ear[/cyan] or [cyan]ear.lr[/cyan].")] = "",
) -> None:
    """Explain every key of params.yaml: its value, its default where it is another, its range, and what it does."""
    with _faults_in_one_line():
        from pipeline.params import load_params
        from pipeline.profiles import explain
        from pipeline.project import enter

        enter()
        print(*explain(load_params(), key), sep="\n")


@params_app.command("use")
def use_profile(
    profile: Annotated[str, typer.Argument(help="[cyan]cpu[/cyan], [cyan]gpu[/cyan] or [cyan]paper[/cyan].")],
) -> None:
    """Write the sizes of a profile into params.yaml, in place; comments and all other keys stay.

    [cyan]cpu[/cyan]: the defaults, minutes on two cores. [cyan]gpu[/cyan]: larger sizes of the same, not tuned.
    [cyan]paper[/cyan]: the sizes of the papers of EAR, InTra and DVT; it needs a GPU, days, and a download of DINOv2.
    """
    with _faults_in_one_line():
        from pipeline.profiles import use
        from pipeline.project import enter

        enter()
        changed = use(profile)
        print(*changed, f"{len(changed)} keys of params.yaml changed", sep="\n")


@_command(INNER)
def stage(
    name: Annotated[str, typer.Argument(help="The stage, without the part from @ on.")],
    category: Annotated[str | None, typer.Option(help="Category of a train or infer stage.")] = None,
    detector: Annotated[str | None, typer.Option(help="Detector of a train or infer stage.")] = None,
) -> None:
    """Run one stage here and now, without asking whether it is out of date. [bold]dvc.yaml[/bold] calls this.

    Exit codes beside those of every command: 75 when a download failed in a way that may pass.
    """
    with _faults_in_one_line():
        from pipeline.project import enter
        from pipeline.stage_command import run_stage

        enter()
        code = run_stage(name, category, detector)
    raise typer.Exit(code)


def main() -> None:
    """Entry point of the console command."""
    app(prog_name="burnish")
