"""The inputs of a detector: images, features of the backbone, the ImageNet CNN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.project import paths
from pipeline.stage_io.rows import ImageFiles
from pipeline.stage_io.saving import load_fitted
from stages.array_store import StoredRows
from stages.detectors.interface import DetectorConfig, ImageNetConfig
from stages.types import Extract, Samples, Subset


def samples_of(
    manifest: pd.DataFrame, rows: NDArray[np.int64], config: DetectorConfig, needs: frozenset[str], device: str
) -> Samples:
    """The images in these rows of the manifest, with the features that the detector `needs`."""

    def stored(path: Any) -> Subset:
        return Subset(StoredRows(path), rows)

    attention = paths.FEATURES / "attention.zarr"
    return Samples(
        ids=manifest["sha256"].to_numpy()[rows].tolist(),
        images=ImageFiles.from_manifest(manifest, rows, config.input_side),
        raw=stored(paths.FEATURES / "tokens.zarr") if "raw" in needs else None,
        clean=stored(paths.CLEAN / "tokens.zarr") if "clean" in needs else None,
        attention=stored(attention) if "attention" in needs and attention.exists() else None,
        imagenet=imagenet_of(config, needs, device),
    )


def imagenet_of(
    config: DetectorConfig, needs: frozenset[str], device: str, gpu_batch: int | None = None
) -> Extract | None:
    """The ImageNet CNN that the detector asks for; at most `gpu_batch` images pass through a GPU together."""
    if "imagenet" not in needs or not isinstance(config, ImageNetConfig):
        return None
    from stages.backbone.imagenet import GPU_BATCH, extractor

    return extractor(config.network, config.patch, device, min(gpu_batch or GPU_BATCH, GPU_BATCH))


def upstream(needs: frozenset[str]) -> list[str]:
    """Digests of the models whose features the detector reads."""
    digests = []
    if needs & {"raw", "clean", "attention"}:
        digests.append(load_fitted(paths.BACKBONE)[1])
    if "clean" in needs:
        digests.append(load_fitted(paths.DENOISER)[1])
    return digests
