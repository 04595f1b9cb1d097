"""The command `burnish`: one module for each group of commands, with their options and help texts."""

from __future__ import annotations


def main() -> None:
    """Entry point of the console command `burnish`."""
    from pipeline.cli.app import app

    app(prog_name="burnish")
