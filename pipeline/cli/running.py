"""`burnish run`, `graph`, `ui`, `doctor`, and `stage`, which dvc.yaml calls."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.faults import faults_in_one_line
from pipeline.cli.manual import INSPECT, INTERNAL, MAIN, command


@command(MAIN)
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
    with faults_in_one_line():
        from pipeline.orchestration.run import run as run_pipeline
        from pipeline.project.root import enter

        code = run_pipeline(enter(), targets or [], force or [], jobs)
    raise typer.Exit(code)


@command(INSPECT)
def graph() -> None:
    """Print the graph of the stages, as DVC reads it, as a Mermaid chart."""
    with faults_in_one_line():
        from pipeline.orchestration.graph import mermaid, read_graph
        from pipeline.project.root import enter

        print(mermaid(read_graph(enter(), check=False)), end="")


@command(INSPECT)
def doctor() -> None:
    """Check versions, device, memory, disk, DVC, Prefect, Git and data; say how to mend each fault.

    Each line is [green]ok[/green], [yellow]warn[/yellow] (it works, but) or [red]fault[/red]; exit code 1 if there is a
    fault. Nothing is changed but that Prefect may set up its folder; no server is started.
    """
    with faults_in_one_line():
        from pipeline.doctor.command import run_doctor
        from pipeline.project.root import enter

        code = run_doctor(enter())
    raise typer.Exit(code)


@command(INSPECT)
def ui(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0: any that is free.")] = 4200,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on. There is no password: whoever reaches it may change everything."),
    ] = "127.0.0.1",
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in your browser.")] = False,
) -> None:
    """Serve the runs of this project as a web page, until Ctrl-C.

    [bold]burnish run[/bold] and [bold]burnish retrain[/bold] started meanwhile use this server. Where one of them has
    a server of its own already, only its address is printed. Nothing is loaded from elsewhere.
    """
    with faults_in_one_line():
        from pipeline.orchestration.ui import run_ui
        from pipeline.project.root import enter

        code = run_ui(enter(), host, port, open_page)
    raise typer.Exit(code)


@command(INTERNAL)
def stage(
    name: Annotated[str, typer.Argument(help="The stage, without the part from @ on.")],
    category: Annotated[str | None, typer.Option(help="Category of a train or infer stage.")] = None,
    detector: Annotated[str | None, typer.Option(help="Detector of a train or infer stage.")] = None,
) -> None:
    """Run one stage here and now, without asking whether it is out of date. [bold]dvc.yaml[/bold] calls this.

    Exit codes beside those of every command: 75 when a download failed in a way that may pass.
    """
    with faults_in_one_line():
        from pipeline.cli.stage import run_stage
        from pipeline.project.root import enter

        enter()
        code = run_stage(name, category, detector)
    raise typer.Exit(code)
