"""The options of `burnish predict`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """What the command line says beside the images."""

    bundle: Path | None = None
    """None: the champion, else data/bundle of the project."""
    out: Path | None = None
    """Output folder. None: data/judged of the project, or ./judged without a project."""
    category: str | None = None
    detectors: tuple[str, ...] = ()
    """The first decides; all are reported. Empty: the fusion, else all detectors."""
    as_json: bool = False
    overlays: bool | None = None
    """True: of all images; False: of none; None: of rejected images."""
    fail_on_defect: bool = False
    batch: int | None = None
    """Images per batch. None: as many as a fixed share of memory holds."""
