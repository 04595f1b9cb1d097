"""The detectors by name. A new one is a package, a test, one line here, and its section in `params.yaml`."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from stages.detectors.ear.config import EarConfig
from stages.detectors.gabor.config import GaborConfig
from stages.detectors.interface import Detector, DetectorConfig
from stages.detectors.intra.config import IntraConfig
from stages.detectors.pca.config import PcaConfig

CONFIGS: dict[str, type[DetectorConfig]] = {
    "ear": EarConfig,
    "intra": IntraConfig,
    "pca": PcaConfig,
    "gabor": GaborConfig,
}
READS_FEATURES = frozenset({"ear"})
"""Detectors that may read backbone features, whatever their parameters; the others see images alone."""
FLOORS = frozenset({"pca", "gabor"})
"""Trivial methods that every table shows beside the others."""


def detector(name: str) -> Detector:
    """The detector's functions; imports what it needs (torch, say) only now."""
    return cast(Detector, import_module(f"stages.detectors.{name}.detector"))
