"""The detectors by name.

A new one is a package, a test, one line here, its section in `params.yaml`, and its graph in `stages/onnx_graphs`.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from stages.detectors.ear.config import EarConfig
from stages.detectors.gabor.config import GaborConfig
from stages.detectors.interface import Detector, DetectorConfig
from stages.detectors.intra.config import IntraConfig
from stages.detectors.knn.config import KnnConfig
from stages.detectors.padim.config import PadimConfig
from stages.detectors.pca.config import PcaConfig

CONFIGS: dict[str, type[DetectorConfig]] = {
    "ear": EarConfig,
    "intra": IntraConfig,
    "knn": KnnConfig,
    "padim": PadimConfig,
    "pca": PcaConfig,
    "gabor": GaborConfig,
}
BASELINES = frozenset(name for name, config in CONFIGS.items() if config.baseline)
"""Plain methods that every table shows beside the others: what a user would take instead."""


def detector(name: str) -> Detector:
    """The detector's functions; imports what it needs (torch, say) only now."""
    return cast(Detector, import_module(f"stages.detectors.{name}.detector"))
