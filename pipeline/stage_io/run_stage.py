"""Runs one stage by its name, in this process."""

from __future__ import annotations

from importlib import import_module

from pipeline.project.params import load_params
from pipeline.project.stage_table import MATRIX, STAGES
from pipeline.stage_io.stage_warnings import kept_warnings
from stages.types import UserError


def run(name: str, category: str | None = None, detector: str | None = None) -> None:
    """Run one stage in this process, in the project's root.

    Raises:
        UserError: the stage does not exist; a category or detector is missing, superfluous, or not in params.yaml.
    """
    if name not in STAGES:
        raise UserError(f"no stage {name!r}; the stages are {', '.join(STAGES)}")
    params = load_params()
    module, function = STAGES[name]
    if name not in MATRIX:
        if category is not None or detector is not None:
            raise UserError(f"stage {name} takes no --category and no --detector")
        with kept_warnings(name):
            getattr(import_module(f"pipeline.stage_io.{module}"), function)(params)
        return
    for option, value, known in (
        ("--category", category, params.data.categories),
        ("--detector", detector, params.detectors),
    ):
        if value is None or value not in known:
            raise UserError(f"stage {name} needs {option}, one of params.yaml's: {', '.join(known)}; it is {value}")
    with kept_warnings(f"{name}@{category}-{detector}"):
        getattr(import_module(f"pipeline.stage_io.{module}"), function)(params, category, detector)
