"""Section `retrain`: where new images come from, and when a newly trained model replaces the one that serves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from stages.types import Config, UserError


class RetrainConfig(Config):
    """Where new images come from, and when what was trained with them replaces the champion. No stage reads this."""

    inbox: str = "data/inbox"
    """Folder, of the layout of `data.folder`, that new images are dropped into: `normal/`, `defect/<type>/`, `masks/`.
    What was taken in is moved from there to data/retrain/."""
    settle_s: Annotated[float, Field(ge=0, le=3600)] = 2.0
    """A file of the inbox is taken in when neither its size nor its time changed within this many seconds."""
    gate: str = "image_auroc>=-0.01"
    """Challenger less champion, on the champion's test images; as for `burnish diff --gate`. The challenger is held
    when the whole interval of a difference lies beyond its limit, or when it cannot be judged: so without defective
    test images, of which AUROC needs some. Then a rule on good ones serves: `overkill_rate<=+0.02`."""
    detectors: tuple[str, ...] = ()
    """Whose figures the gate judges, where its rules do not say. None: the fusion, or the first where there is none."""
    on_drift: Literal["warn", "hold"] = "warn"
    """What happens when the new images differ from the training images: said in the run's record, or the challenger
    held."""
    drift_level: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """Share of harmless batches of images of which drift is said all the same."""
    drift_least: Annotated[int, Field(ge=2, le=10_000)] = 12
    """New good images of a category below which nothing is said of drift."""
    timeout_minutes: Annotated[float, Field(gt=0)] = 240.0
    """A run of the pipeline is ended after this time, and has failed."""
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    """How often a failed scheduled run is tried again, a minute later."""
    model: Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$")] = "burnish"
    """Name of the model in GTO's tags: `burnish@v0.1.0` is a version, `burnish#champion#1` the first that served."""
    keep: Annotated[int, Field(ge=1, le=1000)] = 5
    """Champions whose bundles are kept; older ones are made anew from DVC's cache when they are rolled back to."""

    @field_validator("gate")
    @classmethod
    def _parses(cls, value: str) -> str:
        from pipeline.project.gate_rules import Rule

        try:
            Rule.parse(value)
        except UserError as fault:
            raise ValueError(str(fault)) from fault
        return value
