"""The detectors by name.

To add a detector `NAME`:

1. Write `stages/detectors/NAME/detector.py`: the parameters, a subclass of `DetectorConfig`, and the functions `needs`,
   `fit` and `score` (see `stages.detectors.interface`). If it imports torch when it is loaded, write the parameters
   into a `config.py` of their own: every command loads them, and torch takes seconds to import.
2. Add the parameters to `CONFIGS` below.
3. Add a section `NAME` with all parameters to `params.yaml`, and `NAME` to its list `detectors`.
4. Add the section to `params` of stage `report` in `dvc.yaml`.
5. Write a test in `tests/stages/detectors/NAME/`.

For `burnish export`, also write `stages/onnx_graphs/NAME.py` (see `stages.onnx_graphs.interface`).
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from stages.detectors.context.config import ContextConfig
from stages.detectors.ear.config import EarConfig
from stages.detectors.gabor.config import GaborConfig
from stages.detectors.interface import Detector, DetectorConfig
from stages.detectors.intra.config import IntraConfig
from stages.detectors.knn.config import KnnConfig
from stages.detectors.padim.config import PadimConfig
from stages.detectors.pca.config import PcaConfig
from stages.detectors.subspace.config import SubspaceConfig

CONFIGS: dict[str, type[DetectorConfig]] = {
    "context": ContextConfig,
    "ear": EarConfig,
    "intra": IntraConfig,
    "knn": KnnConfig,
    "subspace": SubspaceConfig,
    "padim": PadimConfig,
    "pca": PcaConfig,
    "gabor": GaborConfig,
}
"""The parameters of each detector."""
BASELINES = frozenset(name for name, config in CONFIGS.items() if config.baseline)
"""Detectors that tables mark as baselines."""


def detector(name: str) -> Detector:
    """The functions of a detector. Its module, and what it imports, such as torch, is loaded by this call."""
    return cast(Detector, import_module(f"stages.detectors.{name}.detector"))
