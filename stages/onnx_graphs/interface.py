"""A graph for export: a network of tensors that does what a detector's `score` does with one image, and its inputs.

A detector with an ONNX graph has a module `stages.onnx_graphs.NAME` with a function `graph` (`Graph`). The graphs are
not in the detectors' packages: a change in how a detector is exported must not train it again.

The attributes of a graph's modules, and the arguments of its `forward`, are names in the ONNX file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from stages.types import Fitted, Rows, Samples, UserError

OUTPUTS = {
    "anomaly_map": "higher is more anomalous",
    "image_score": "higher is more anomalous; above the threshold the image is rejected",
}
"""Name -> meaning of the outputs of a detector's graph, both float32: (h, w) and ()."""


@dataclass(frozen=True)
class Input:
    """One input of a graph."""

    name: str
    shape: tuple[int, ...]
    dtype: Literal["uint8", "float32"]
    meaning: str
    """What the values are, and where they come from."""

    def example(self) -> NDArray[Any]:
        """Zeros in the input's shape. The exported graph does not depend on the values."""
        return np.zeros(self.shape, self.dtype)


@dataclass(frozen=True)
class ExportGraph:
    """A detector, the fusion, or the backbone as a network of tensors."""

    module: nn.Module
    """In eval mode. It takes `inputs` and returns `outputs`, in their orders."""
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...] = tuple(OUTPUTS)


def image_input(side: int) -> Input:
    """The input of images, (1, S, S, 3) uint8."""
    meaning = f"RGB image, resized to {side} x {side} with antialiasing, bilinear, aspect ratio not kept; values 0..255"
    return Input("image", (1, side, side, 3), "uint8", meaning)


FEATURES = {
    "raw": "patch tokens of the project's backbone, as they come",
    "clean": "patch tokens of the project's backbone after its denoiser",
    "attention": "the class token's attention to the patches in the project's backbone",
}
"""Name -> meaning of the outputs of the backbone's graph."""
ROUNDED = "rounded to half precision as the project stores them"


def feature_input(name: str, samples: Samples) -> Input:
    """The input of tokens `raw` or `clean`, (1, h, w, C), or of `attention`, (1, heads, h, w).

    Raises:
        UserError: the images come without these features.
    """
    rows: Rows | None = getattr(samples, name)
    if rows is None:
        raise UserError(f"the detector reads '{name}' of the backbone, but the images come without it")
    meaning = f"{FEATURES[name]}, of the same image, {ROUNDED}: output `{name}` of backbone.onnx"
    return Input(name, (1, *rows.shape[1:]), "float32", meaning)


Graph = Callable[[Fitted, Any, Samples, "nn.Module | None"], ExportGraph]
"""`graph(fitted, config, samples, cnn)` of each detector's module.

`samples` have the shapes of the backbone's features. `cnn` is the network behind `Samples.imagenet`, for a detector
that reads it: (B, 3, S, S) pixels in 0 to 255 -> (B, C, h, w) features, and a second output that is not used.
"""


def graph_of(detector: str) -> Graph:
    """The function `graph` of a detector's module.

    Raises:
        UserError: the detector has no such module.
    """
    module = f"stages.onnx_graphs.{detector}"
    if find_spec(module) is None:
        file = f"{module.replace('.', '/')}.py"
        raise UserError(f"detector {detector} has no ONNX graph: write {file}, or export other detectors")
    return cast(Graph, import_module(module).graph)
