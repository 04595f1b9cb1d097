"""The command `burnish`: one file per group of commands, with its options."""

from __future__ import annotations


def main() -> None:
    """Entry point of the console command."""
    from pipeline.cli.app import app

    app(prog_name="burnish")
