"""`sdssl`: as `dino`, and the class token after intermediate blocks also predicts the teacher's last block.

Source: Jang et al., "Self-distilled self-supervised representation learning", 2021 (WACV 2023), section 3; details as
in the authors' code: each intermediate block has a head of its own, all heads predict the teacher's last output for
another view, and the mean of their losses is weighted by `ratio`. The authors add it to SimCLR, BYOL and MoCo v3 (and
to DINO in their code); here it is added to `dino`, with its deviations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stages.backbone.config import BackboneConfig
from stages.backbone.networks.vit import Hybrid, Plain
from stages.backbone.objectives.dino import Batch, Dino, ViewComparison
from stages.backbone.objectives.views import Views


class Sdssl(Dino):
    """`Dino` with a head for each intermediate block, which the teacher does not have."""

    def __init__(self, network: Hybrid | Plain, pool: Views, config: BackboneConfig) -> None:
        super().__init__(network, pool, config)
        self.blocks = range(config.sdssl.first_block - 1, config.depth - 1)
        self.block_heads = nn.ModuleList(self.new_head(config.dino.prototypes) for _ in self.blocks)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        comparison = self.compare(batch)
        middle = self.middle_loss(comparison)
        loss = comparison.loss + self.config.sdssl.ratio * middle
        spread = {"usage": comparison.usage, "doubt": comparison.doubt}
        return {"loss": loss, "class": comparison.loss, "blocks": middle, **spread}

    def middle_loss(self, comparison: ViewComparison) -> Tensor:
        """Mean over the intermediate blocks of the loss between views."""
        outputs = [comparison.full_size, *([comparison.small] if comparison.small else [])]
        losses = []
        for block, head in zip(self.blocks, self.block_heads, strict=True):
            tokens = torch.cat([output.states[block][:, 0] for output in outputs])  # (V * b, C)
            logits = head(tokens).unflatten(0, (-1, comparison.targets.shape[1]))  # (V, b, K)
            losses.append(self.cross_view_loss(logits, comparison.targets))
        return torch.stack(losses).mean()
