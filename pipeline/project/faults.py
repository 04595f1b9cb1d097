"""What went wrong, in one line: faults of the machine, the network and the parameters, told from bugs of ours."""

from __future__ import annotations

import errno
import shutil
import urllib.error
from collections.abc import Iterator
from pathlib import Path

from pipeline.project import exit_codes
from stages.types import UserError

PASSING_HTTP = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP status codes of faults that may pass."""
_FULL = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
"""What torch says in a plain RuntimeError: of the CPU, of a GPU, and of its libraries that allocate themselves."""


def out_of_memory(error: BaseException) -> bool:
    """Python's and NumPy's, a GPU's, and torch's."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL))
    )


def explain(error: BaseException) -> tuple[int, str | None]:
    """Exit code and message for faults of the machine, the network and the parameters; no message for any other."""
    for cause in _chain(error):
        if isinstance(cause, UserError):
            return exit_codes.FAILED, str(cause)
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return exit_codes.FAILED, _disk_full(cause)
        if out_of_memory(cause):
            return exit_codes.FAILED, _memory_full(cause)
        if type(cause).__name__ == "ValidationError" and type(cause).__module__.startswith("pydantic"):
            return exit_codes.FAILED, _invalid(cause)
        if _may_pass(cause):
            text = f"{type(cause).__name__}: {cause}"
            return exit_codes.TRANSIENT, f"a download failed ({text}): check the network, then run again"
        if isinstance(cause, OSError) and cause.filename is not None:
            return exit_codes.FAILED, f"{cause.filename}: {cause.strerror or cause}"
    return exit_codes.FAILED, None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _disk_full(error: OSError) -> str:
    named = Path(str(error.filename)) if error.filename is not None else Path("data").resolve()
    folder = next(p for p in (named, *named.absolute().parents) if p.exists())
    free = shutil.disk_usage(folder).free / 2**20
    why = "the disk quota is used up" if error.errno == errno.EDQUOT else "the disk is full"
    return (
        f"{named}: {why} ({free:,.0f} MiB free there): make room (`rm -rf data/cache` loses nothing but time; "
        "`dvc gc --workspace` drops old results), then run again"
    )


def _memory_full(error: BaseException) -> str:
    import psutil

    free = psutil.virtual_memory().available / 2**20
    wanted = f" ({' '.join(str(error).split())})" if str(error) else ""
    return f"out of memory{wanted}, {free:,.0f} MiB available: lower the batch size or the image side in params.yaml"


def _invalid(error: BaseException) -> str:
    """pydantic's first complaint as `key: what is wrong, got value`."""
    first = error.errors()[0]  # type: ignore[attr-defined]
    key = ".".join(map(str, first["loc"])) or "parameters"
    return f"{key}: {first['msg']}, got {first.get('input')!r}: mend it in params.yaml"


def _may_pass(error: BaseException) -> bool:
    """Whether this is a fault of the network that a later try may not meet."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in PASSING_HTTP
    if isinstance(error, urllib.error.URLError | ConnectionError | TimeoutError):
        return True
    # requests, httpx, urllib3 and huggingface_hub have families of their own and need not be installed.
    names = {f"{c.__module__.partition('.')[0]}.{c.__name__}" for c in type(error).__mro__}
    families = {"requests.ConnectionError", "requests.Timeout", "httpx.TransportError", "urllib3.HTTPError"}
    return bool(names & families)
