"""Section `retrain`: where new images come from, and when newly trained models replace the champion."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from stages.types import Config, UserError


class RetrainConfig(Config):
    """Where new images come from, and when newly trained models replace the champion. No stage reads this section."""

    inbox: str = "data/inbox"
    """Folder for new images, laid out as `data.folder`.

    That is `normal/`, `defect/<type>/` and `masks/`. Files that were taken in are moved from there to data/retrain/."""
    settle_s: Annotated[float, Field(ge=0, le=3600)] = 2.0
    """A file is taken in once its size and time have not changed for this many seconds."""
    gate: str = "image_auroc>=-0.01"
    """Limits on challenger minus champion, as `burnish diff --gate`. An interval wholly beyond a limit prevents
    promotion. Without defective test images use a rule on good images: `overkill_rate<=+0.02`.

    The interval is a confidence interval. Both sides are measured on the test images that both have with the same
    label. A gate that cannot be evaluated prevents promotion too: AUROC needs
    defective test images."""
    detectors: tuple[str, ...] = ()
    """Detectors of gate rules that name none. Empty: `fused`, or the first detector."""
    on_drift: Literal["warn", "hold"] = "warn"
    """When new images differ from training images: `warn`, or `hold` the challenger.

    `warn` writes it into the run's record. A challenger that is held is not promoted."""
    drift_level: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    """False-alarm rate of the drift test (0 to 1)."""
    drift_least: Annotated[int, Field(ge=2, le=10_000)] = 12
    """With fewer new good images in a category there is no drift test."""
    timeout_minutes: Annotated[float, Field(gt=0)] = 240.0
    """A run of the pipeline that takes longer is ended and counts as failed."""
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    """How often a failed scheduled run is tried again, each time after a minute."""
    model: Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$")] = "burnish"
    """Name of the model in git tags: `burnish@v0.1.0`, `burnish#champion#1`.

    GTO writes the tags: the first is a version, the second the first promotion."""
    keep: Annotated[int, Field(ge=1, le=1000)] = 5
    """Number of champions whose bundles are kept.

    A rollback to an older champion rebuilds its bundle from DVC's cache."""

    @field_validator("gate")
    @classmethod
    def _parses(cls, value: str) -> str:
        from pipeline.project.gate_rules import Rule

        try:
            Rule.parse(value)
        except UserError as fault:
            raise ValueError(str(fault)) from fault
        return value
