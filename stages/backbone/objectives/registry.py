"""The objectives by name."""

from __future__ import annotations

from stages.backbone.objectives.dino import Dino
from stages.backbone.objectives.distill import Distillation
from stages.backbone.objectives.interface import Objective
from stages.backbone.objectives.mfm import Mfm
from stages.backbone.objectives.sdssl import Sdssl
from stages.backbone.objectives.selfpatch import Selfpatch

OBJECTIVES: dict[str, type[Objective]] = {
    "distill": Distillation,
    "dino": Dino,
    "selfpatch": Selfpatch,
    "sdssl": Sdssl,
    "mfm": Mfm,
}
