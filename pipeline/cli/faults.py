"""How every command reports an error that the user can correct."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import typer

from pipeline.project import exit_codes


@contextlib.contextmanager
def faults_in_one_line() -> Iterator[None]:
    """Inside the block, a UserError or a fault of the machine ends the command with one line on stderr and exit code 1.

    Ctrl-C ends it with exit code 130.
    """
    from stages.types import UserError

    try:
        yield
    except UserError as error:
        print(f"burnish: error: {error}", file=sys.stderr)
        raise typer.Exit(exit_codes.FAILED) from None
    except OSError as error:
        from pipeline.project.faults import explain_fault

        code, message = explain_fault(error)
        if isinstance(error, BrokenPipeError) or message is None:
            raise
        print(f"burnish: error: {message}", file=sys.stderr)
        raise typer.Exit(code) from None
    except KeyboardInterrupt:
        print("burnish: interrupted", file=sys.stderr)
        raise typer.Exit(exit_codes.INTERRUPTED) from None
