"""Convert a graph to an ONNX file, and run that file with ONNX Runtime."""

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
"""Largest size of the weights. A file in the ONNX format holds less than 2 GiB."""


def to_onnx(graph: ExportGraph) -> bytes:
    """Convert the graph to the bytes of one ONNX file with its weights. The same arguments give the same bytes.

    Raises:
        UserError: the weights are too large for one file.
    """
    tensors = [*graph.module.parameters(), *graph.module.buffers()]
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if size > MOST_BYTES:
        raise UserError(
            f"the weights are {size / 1e9:.1f} GB, but an ONNX file holds {MOST_BYTES / 1e9:.0f} GB at most; train with"
            " a smaller memory_size or a coarser grid"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            graph.module,
            tuple(torch.from_numpy(source.example()) for source in graph.inputs),
            input_names=[source.name for source in graph.inputs],
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # the exporter writes the place in the code here, with paths of this machine
    content: bytes = program.model_proto.SerializeToString(deterministic=True)
    return content


Arrays = Mapping[str, NDArray[Any]]


def runner(content: bytes, threads: int = 0) -> Callable[[Arrays], ScoreMap]:
    """A function that runs a detector's ONNX file on inputs by name, and returns map and score."""
    run = arrays_runner(content, threads)

    def score(inputs: Arrays) -> ScoreMap:
        outputs = run(inputs)
        return ScoreMap(outputs["anomaly_map"], float(outputs["image_score"]))

    return score


def arrays_runner(content: bytes, threads: int = 0) -> Callable[[Arrays], dict[str, NDArray[Any]]]:
    """A function that runs an ONNX file on the CPU, from inputs to outputs by name.

    Args:
        content: the bytes of the file.
        threads: 0 for as many as there are cores.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    names = [output.name for output in session.get_outputs()]

    def run(inputs: Arrays) -> dict[str, NDArray[Any]]:
        return dict(zip(names, map(np.asarray, session.run(names, dict(inputs))), strict=True))

    return run
