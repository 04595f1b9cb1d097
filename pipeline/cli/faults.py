"""What every command does with faults that the user can mend."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import typer

from pipeline.project import exit_codes


@contextlib.contextmanager
def faults_in_one_line() -> Iterator[None]:
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
