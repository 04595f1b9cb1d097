"""The stages of dvc.yaml in the order of the graph, and the function of `pipeline.stage_io` that runs each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

STAGES = {
    "download": ("download", "download"),
    "pretrain": ("pretrain", "pretrain"),
    "features": ("features", "features"),
    "audit": ("audit", "audit"),
    "denoise": ("denoise", "denoise"),
    "train_denoiser": ("train_denoiser", "train_denoiser"),
    "clean_features": ("clean_features", "clean_features"),
    "probe": ("probe", "probe"),
    "inputs": ("inputs", "inputs"),
    "train": ("train", "train"),
    "infer": ("infer", "infer"),
    "fuse": ("fuse", "fuse_detectors"),
    "score": ("score", "score"),
    "report": ("report", "report"),
}
"""Name of the stage -> (module below `pipeline.stage_io`, function)."""
MATRIX = frozenset({"train", "infer"})
"""Stages that exist once per category and detector."""


def stage_names(pairs: Iterable[str]) -> Iterator[str]:
    """All stages, each as `burnish run` takes it.

    Args:
        pairs: CATEGORY-DETECTOR.
    """
    pairs = sorted(pairs)
    for stage in STAGES:
        yield from (f"{stage}@{pair}" for pair in pairs) if stage in MATRIX else (stage,)
