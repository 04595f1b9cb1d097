"""One module a stage, or a pair of stages: load the inputs, call the stage's function, save the outputs.

Stages are separate modules, not one file, so that each can be a dependency of its own stage alone: a change in how
scores are written must not train anything again.
"""

from __future__ import annotations

from importlib import import_module

from stages.types import UserError

STAGES = {
    "download": ("download", "download"),
    "pretrain": ("pretrain", "pretrain"),
    "features": ("features", "features"),
    "audit": ("audit", "audit"),
    "denoise": ("denoise", "denoise"),
    "train_denoiser": ("denoiser", "train_denoiser"),
    "clean_features": ("denoiser", "clean_features"),
    "probe": ("probe", "probe"),
    "inputs": ("inputs", "inputs"),
    "train": ("detectors", "train"),
    "infer": ("detectors", "infer"),
    "fuse": ("fuse", "fuse_detectors"),
    "score": ("score", "score"),
    "report": ("report", "report"),
}
"""Stage name: module below `pipeline.stage_io`, function."""
MATRIX = frozenset({"train", "infer"})
"""Stages that exist once a category and detector."""


def run(name: str, category: str | None = None, detector: str | None = None) -> None:
    """Run one stage in this process, in the project's root.

    Raises:
        UserError: no such stage, or a category or detector missing, superfluous, or not in params.yaml.
    """
    from pipeline.params import load_params

    if name not in STAGES:
        raise UserError(f"no stage {name!r}; the stages are {', '.join(STAGES)}")
    params = load_params()
    module, function = STAGES[name]
    if name not in MATRIX:
        if category is not None or detector is not None:
            raise UserError(f"stage {name} takes no --category and no --detector")
        getattr(import_module(f"pipeline.stage_io.{module}"), function)(params)
        return
    for option, value, known in (
        ("--category", category, params.data.categories),
        ("--detector", detector, params.detectors),
    ):
        if value is None or value not in known:
            raise UserError(f"stage {name} needs {option}, one of params.yaml's: {', '.join(known)}; got {value}")
    getattr(import_module(f"pipeline.stage_io.{module}"), function)(params, category, detector)
