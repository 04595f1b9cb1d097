"""What every command does with faults that the user can mend."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import typer

from pipeline import exit_codes


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


_FULL = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
"""What torch says in a plain RuntimeError: of the CPU, of a GPU, and of its libraries that allocate themselves."""


def out_of_memory(error: BaseException) -> bool:
    """Python's and NumPy's, a GPU's, and torch's."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL))
    )
