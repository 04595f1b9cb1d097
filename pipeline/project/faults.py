"""Turns an exception into an exit code and one line, if its cause is the machine, the network or the parameters.

An exception with any other cause is a bug in Burnish, and gets no line.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import urllib.error
from collections.abc import Iterator
from pathlib import Path

from pipeline.project import exit_codes
from stages.types import UserError

TRANSIENT_HTTP_CODES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP status codes after which a later attempt may succeed."""
CONTAINER = Path("/sys/fs/cgroup")
_TORCH_MEMORY_MESSAGES = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
"""Parts of messages of a plain RuntimeError: from torch's CPU allocator, from its GPU allocator, and from GPU
libraries that allocate memory themselves."""


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: of Python and NumPy, of a GPU, or of torch on the CPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(message in str(error) for message in _TORCH_MEMORY_MESSAGES))
    )


def explain_fault(error: BaseException) -> tuple[int, str | None]:
    """Exit code and one-line message of an exception.

    The message is None if neither the exception nor one of its causes is a fault of the machine, the network or the
    parameters: it is a bug, and the caller should show the traceback.
    """
    for cause in _with_causes(error):
        if isinstance(cause, UserError):
            return exit_codes.FAILED, str(cause)
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return exit_codes.FAILED, _disk_full_message(cause)
        if out_of_memory(cause):
            return exit_codes.FAILED, _out_of_memory_message(cause)
        if type(cause).__name__ == "ValidationError" and type(cause).__module__.startswith("pydantic"):
            return exit_codes.FAILED, _invalid_parameter_message(cause)
        if _is_transient(cause):
            text = f"{type(cause).__name__}: {cause}"
            return exit_codes.TRANSIENT, f"a download failed ({text}): check the network, then run again"
        if isinstance(cause, OSError) and cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return exit_codes.FAILED, _not_permitted_message(cause)
        if isinstance(cause, OSError) and cause.filename is not None:
            return exit_codes.FAILED, f"{cause.filename}: {cause.strerror or cause}"
    return exit_codes.FAILED, None


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, then the exception that it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _disk_full_message(error: OSError) -> str:
    path = Path(str(error.filename)) if error.filename is not None else Path("data").resolve()
    folder = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    free_mib = shutil.disk_usage(folder).free / 2**20
    reason = "the disk quota is used up" if error.errno == errno.EDQUOT else "the disk is full"
    return (
        f"{path}: {reason} ({free_mib:,.0f} MiB free): free space on this disk, or let DVC keep its cache on another "
        "one (`dvc cache dir NEW`), then run again"
    )


def _not_permitted_message(error: OSError) -> str:
    place = Path(str(error.filename)) if error.filename is not None else Path.cwd()
    return f"{place}: {error.strerror}: {remedy_for(error, place)}"


def remedy_for(error: OSError, place: Path) -> str:
    """What to do about a file or folder that may not be read or written."""
    if error.errno == errno.EROFS:
        return "its disk is mounted read-only: mount it for writing, or work in a copy (git clone)"
    return f"make it yours (chown or chmod {place}; `ls -ld` shows its owner), or work in a copy (git clone)"


def _out_of_memory_message(error: BaseException) -> str:
    details = f" ({' '.join(str(error).split())})" if str(error) else ""
    return f"out of memory{details}, {memory_limit()}: lower the batch size or the image side in params.yaml"


def memory_limit() -> str:
    """The limit of which least is left, in words: of the shell (`ulimit`), of the container, or of the machine."""
    import resource

    import psutil

    available, used = psutil.virtual_memory().available, psutil.Process().memory_info()
    left = {f"{available / 2**20:,.0f} MiB available": available}
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        left[f"the limit of this shell is {soft / 2**20:,.0f} MiB (ulimit -v)"] = soft - used.vms
    with contextlib.suppress(OSError, ValueError):
        most = int((CONTAINER / "memory.max").read_text())
        current = int((CONTAINER / "memory.current").read_text())
        left[f"the limit of this container is {most / 2**20:,.0f} MiB"] = most - current
    return min(left, key=lambda text: left[text])


def _invalid_parameter_message(error: BaseException) -> str:
    """The first error that pydantic lists, as `key: what is wrong, got value`."""
    first = error.errors()[0]  # type: ignore[attr-defined]
    key = ".".join(map(str, first["loc"])) or "parameters"
    return f"{key}: {first['msg']}, got {first.get('input')!r}: correct it in params.yaml"


def _is_transient(error: BaseException) -> bool:
    """Whether this is a network fault after which a later attempt may succeed."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in TRANSIENT_HTTP_CODES
    if isinstance(error, urllib.error.URLError | ConnectionError | TimeoutError):
        return True
    # requests, httpx, urllib3 and huggingface_hub have their own exception classes, and need not be installed.
    names = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(error).__mro__}
    transient = {"requests.ConnectionError", "requests.Timeout", "httpx.TransportError", "urllib3.HTTPError"}
    return bool(names & transient)
