"""The machine and the software of a run, in one line each."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.show.text import counted

PACKAGES = ("burnish", "torch", "numpy", "scikit-learn", "pillow")


def describe_machine() -> str:
    """Processor, cores, memory, GPUs, operating system and Python."""
    import psutil

    gpus = ", ".join(_gpus()) or "no GPU"
    memory = psutil.virtual_memory().total / 2**30
    cores = counted(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, "core")
    return f"{_processor()}, {cores}, {memory:.0f} GiB, {gpus}; {platform.system()}, Python {platform.python_version()}"


def describe_software() -> str:
    """Versions of the installed PACKAGES."""
    return ", ".join(f"{name} {installed}" for name in PACKAGES if (installed := _version(name)))


def _processor() -> str:
    return next(_values(Path("/proc/cpuinfo"), "model name"), platform.processor() or platform.machine())


def _gpus() -> Iterator[str]:
    """From files of the NVIDIA driver, because importing torch would take seconds."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        yield from _values(path, "Model")


def _values(path: Path, key: str) -> Iterator[str]:
    """Values of the lines `key: value` of a system file; none if the file does not exist."""
    if path.exists():
        for line in path.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                yield value.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
