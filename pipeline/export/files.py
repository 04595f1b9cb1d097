"""The files of an export: a graph, and its description in JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stage_io.rows import read_manifest, rows_of
from pipeline.stage_io.saving import write_json
from stages.types import UserError

if TYPE_CHECKING:
    from stages.onnx_graphs.interface import ExportGraph

IMAGES = 16
"""Largest number of images that are computed with ONNX Runtime and with our own code."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def compared_rows(category: str) -> NDArray[np.int64]:
    """Rows of the manifest whose images are computed both ways: test images, else validation images."""
    manifest = read_manifest()
    test = rows_of(manifest, category, "test")
    return sample_rows(test if len(test) else rows_of(manifest, category, "validation"))


def sample_rows(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most IMAGES rows, evenly spaced.

    Raises:
        UserError: there is no row.
    """
    if not len(rows):
        raise UserError("there are no validation or test images to compare scores on")
    return rows[np.unique(np.linspace(0, len(rows) - 1, IMAGES).astype(np.int64))]


def describe_graph(graph: ExportGraph, outputs: Mapping[str, tuple[list[int], str]]) -> dict[str, Any]:
    """What the JSON file of every graph says.

    Args:
        outputs: shape and meaning of each output.
    """
    from importlib.metadata import version

    from pipeline.bundle.provenance import provenance
    from stages.onnx_graphs.convert import OPSET

    return {
        "inputs": [
            {"name": tensor.name, "shape": list(tensor.shape), "type": tensor.dtype, "meaning": tensor.meaning}
            for tensor in graph.inputs
        ],
        "outputs": [
            {"name": name, "shape": shape, "type": "float32", "meaning": meaning}
            for name, (shape, meaning) in outputs.items()
        ],
        "opset": OPSET,
        "provenance": provenance(Path()) | {"onnx": {package: version(package) for package in PACKAGES}},
    }


def write_export(model: Path, content: bytes, description: dict[str, Any]) -> None:
    """Write NAME.onnx and NAME.json. At no time does NAME.json describe another NAME.onnx."""
    model.with_suffix(".json").unlink(missing_ok=True)
    model.parent.mkdir(parents=True, exist_ok=True)
    temporary = model.with_name(f".{model.name}.part")
    temporary.write_bytes(content)
    temporary.replace(model)
    write_json(model.with_suffix(".json"), description | {"sha256": hashlib.sha256(content).hexdigest()})


def remove_export(model: Path) -> None:
    """Remove NAME.onnx and NAME.json if they exist."""
    for path in (model.with_suffix(".json"), model):
        path.unlink(missing_ok=True)
