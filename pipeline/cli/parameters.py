"""`burnish params`: explain params.yaml, or switch between sizes."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.faults import faults_in_one_line
from pipeline.cli.manual import INSPECT, app

params_app = typer.Typer(
    help="Explain params.yaml, or set the sizes of everything at once.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@params_app.command("show")
def show_params(
    key: Annotated[str, typer.Argument(help="A section or a key, as [cyan]ear[/cyan] or [cyan]ear.lr[/cyan].")] = "",
) -> None:
    """Explain every key of params.yaml: its value, its default where it is another, its range, and what it does."""
    with faults_in_one_line():
        from pipeline.project.params import load_params
        from pipeline.project.profiles import explain
        from pipeline.project.root import enter

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
    with faults_in_one_line():
        from pipeline.project.profiles import use
        from pipeline.project.root import enter

        enter()
        changed = use(profile)
        print(*changed, f"{len(changed)} keys of params.yaml changed", sep="\n")


app.add_typer(params_app, name="params", rich_help_panel=INSPECT)
