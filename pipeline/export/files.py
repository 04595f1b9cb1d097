"""The files of an export: a graph and what there is to say of it."""

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
"""At most so many test images (validation images where there are none), evenly spread, are computed both ways."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def compared_rows(category: str) -> NDArray[np.int64]:
    """Rows of the manifest whose images are computed both ways."""
    manifest = read_manifest()
    test = rows_of(manifest, category, "test")
    return some(test if len(test) else rows_of(manifest, category, "validation"))


def some(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most `IMAGES` of them."""
    if not len(rows):
        raise UserError("there are no validation or test images to compare scores on")
    return rows[np.unique(np.linspace(0, len(rows) - 1, IMAGES).astype(np.int64))]


def of_graph(graph: ExportGraph, outputs: Mapping[str, tuple[list[int], str]]) -> dict[str, Any]:
    """What its JSON says of a graph in any case. `outputs`: shape and meaning of each."""
    from importlib.metadata import version

    from pipeline.bundle.provenance import provenance
    from stages.onnx_graphs.convert import OPSET

    return {
        "inputs": [
            {"name": one.name, "shape": list(one.shape), "type": one.dtype, "meaning": one.meaning}
            for one in graph.inputs
        ],
        "outputs": [
            {"name": name, "shape": shape, "type": "float32", "meaning": meaning}
            for name, (shape, meaning) in outputs.items()
        ],
        "opset": OPSET,
        "provenance": provenance(Path()) | {"onnx": {one: version(one) for one in PACKAGES}},
    }


def write(model: Path, content: bytes, about: dict[str, Any]) -> None:
    """FOLDER/NAME.onnx and NAME.json; never the description of another file."""
    model.with_suffix(".json").unlink(missing_ok=True)
    model.parent.mkdir(parents=True, exist_ok=True)
    temporary = model.with_name(f".{model.name}.part")
    temporary.write_bytes(content)
    temporary.replace(model)
    write_json(model.with_suffix(".json"), about | {"sha256": hashlib.sha256(content).hexdigest()})


def remove(model: Path) -> None:
    """The file and its description, where they are."""
    for path in (model.with_suffix(".json"), model):
        path.unlink(missing_ok=True)
