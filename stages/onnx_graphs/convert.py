"""A graph to ONNX, and the same graph run by ONNX Runtime."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.onnx_graphs.interface import ExportGraph
from stages.types import ScoreMap, UserError

OPSET = 20
MOST_BYTES = 2_000_000_000
"""A file in the ONNX format holds less than 2 GiB."""


def to_onnx(graph: ExportGraph) -> bytes:
    """The graph as one ONNX file, weights within. Same arguments, same bytes.

    Raises:
        UserError: the weights are too large for one file.
    """
    tensors = [*graph.module.parameters(), *graph.module.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if size > MOST_BYTES:
        raise UserError(
            f"the weights are {size / 1e9:.1f} GB, and an ONNX file holds {MOST_BYTES / 1e9:.0f} at most; train with"
            " a smaller memory_size or a coarser grid"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            graph.module,
            tuple(torch.from_numpy(one.example()) for one in graph.inputs),
            input_names=[one.name for one in graph.inputs],
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # the exporter notes where in the code it came from: paths of this machine
    content: bytes = program.model_proto.SerializeToString(deterministic=True)
    return content


Arrays = Mapping[str, NDArray[Any]]


def runner(content: bytes, threads: int = 0) -> Callable[[Arrays], ScoreMap]:
    """The function from inputs by name to map and score."""
    run = arrays_runner(content, threads)

    def scored(inputs: Arrays) -> ScoreMap:
        found = run(inputs)
        return ScoreMap(found["anomaly_map"], float(found["image_score"]))

    return scored


def arrays_runner(content: bytes, threads: int = 0) -> Callable[[Arrays], dict[str, NDArray[Any]]]:
    """The function from inputs to outputs, by name, on the CPU. `threads`: 0 for as many as there are cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    names = [one.name for one in session.get_outputs()]

    def run(inputs: Arrays) -> dict[str, NDArray[Any]]:
        return dict(zip(names, map(np.asarray, session.run(names, dict(inputs))), strict=True))

    return run
