"""`sdssl`: as `dino`, and the class token after intermediate blocks says what the teacher's last block says too.

Source: Jang et al., "Self-distilled self-supervised representation learning", 2021 (WACV 2023), section 3; details as
in the authors' code: a head of its own for each intermediate block, all towards the teacher's last output of another
view, and the mean of their losses weighted by `ratio`. The authors add it to SimCLR, BYOL and MoCo v3 (and to DINO in
their code); here it is added to `dino`, with its deviations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.backbone.config import BackboneConfig
from stages.backbone.networks.vit import Hybrid, Plain
from stages.backbone.objectives.dino import Batch, Compared, Dino
from stages.backbone.objectives.views import Views


class Sdssl(Dino):
    """`Dino` with a head for each intermediate block, which the teacher has not."""

    def __init__(self, network: Hybrid | Plain, pool: Views, config: BackboneConfig) -> None:
        super().__init__(network, pool, config)
        self.blocks = range(config.sdssl.first_block - 1, config.depth - 1)
        self.block_heads = nn.ModuleList(self.new_head(config.dino.prototypes) for _ in self.blocks)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        found = self.compare(batch)
        middle = self.middle_loss(found)
        loss = found.loss + self.config.sdssl.ratio * middle
        return {"loss": loss, "class": found.loss, "blocks": middle, "usage": found.usage, "doubt": found.doubt}

    def middle_loss(self, found: Compared) -> Tensor:
        """Mean over the intermediate blocks of the loss between views."""
        looks = [found.wide, *([found.narrow] if found.narrow else [])]
        losses = []
        for block, head in zip(self.blocks, self.block_heads, strict=True):
            tokens = torch.cat([look.states[block][:, 0] for look in looks])  # (V * b, C)
            losses.append(self.across(head(tokens).unflatten(0, (-1, found.targets.shape[1])), found.targets))
        return torch.stack(losses).mean()
