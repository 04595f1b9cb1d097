"""`selfpatch`: as `dino`, and each patch predicts what the teacher gives for its most similar neighbours.

Source: Yun et al., "Patch-level representation learning for self-supervised vision transformers", CVPR 2022, section 3;
details as in the authors' code: the teacher's patches choose among their 3 x 3 neighbours by cosine similarity, class
attention (Touvron et al., CaiT, ICCV 2021) aggregates the chosen neighbours, and the student's own patch must match.
Deviations:
- The trunk keeps its class token, whose attention is read later; the authors drop it. For the view as a whole, the
  aggregation starts from its query plus that token. For neighbours it starts from the query alone, as theirs does.
- Neighbours end at the image's border; theirs wrap around to the opposite border.
- The patches' loss covers only full-size views, so that the teacher need not see the small views.

Legend, in addition to dino.py's: M views; Q queries; m patches around each; k neighbours; P the patches' prototypes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbone.config import BackboneConfig
from stages.backbone.networks.vit import Hybrid, Plain
from stages.backbone.objectives.dino import Batch, Dino, ViewOutput
from stages.backbone.objectives.views import Views

NEIGHBOUR_STEPS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))


class Aggregation(nn.Module):
    """Blocks in which one query attends to patches: norm, attention, norm, MLP."""

    def __init__(self, channels: int, config: BackboneConfig) -> None:
        super().__init__()
        self.query = nn.Parameter(0.02 * torch.randn(channels))
        self.blocks = nn.ModuleList(_Block(channels, config) for _ in range(config.selfpatch.blocks))

    def forward(self, neighbours: Tensor, allowed: Tensor | None = None, start: Tensor | None = None) -> Tensor:
        """Summaries (Q, C) of patches (Q, m, C), without patches that are not `allowed` (Q, m); `start` (Q, C) is added
        to the query."""
        x = self.query.expand(len(neighbours), -1)
        if start is not None:
            x = x + start
        for block in self.blocks:
            x = block(x, neighbours, allowed)
        return x


class _Block(nn.Module):
    def __init__(self, channels: int, config: BackboneConfig) -> None:
        super().__init__()
        hidden = round(channels * config.mlp_ratio)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, config.heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor, neighbours: Tensor, allowed: Tensor | None) -> Tensor:
        keys = self.norm1(torch.cat([x[:, None], neighbours], dim=1))  # (Q, 1 + m, C)
        ignored = None if allowed is None else F.pad(~allowed, (1, 0))  # (Q, 1 + m); the query sees itself
        mixed, _ = self.attention(keys[:, :1], keys, keys, key_padding_mask=ignored, need_weights=False)
        x = x + mixed[:, 0]
        return x + self.mlp(self.norm2(x))


def similar_neighbours(tokens: Tensor, grid: tuple[int, int], count: int) -> tuple[Tensor, Tensor]:
    """For each of the patches (M, N, C): its `count` most similar neighbours (M, N, k, C), and which of them exist."""
    index, inside = _neighbour_index(grid, tokens.device)  # (N, 8) each
    unit = F.normalize(tokens.float(), dim=-1)
    likeness = (unit[:, :, None] * unit[:, index]).sum(-1)  # (M, N, 8)
    best = likeness.masked_fill(~inside, -torch.inf).topk(count, dim=-1).indices  # (M, N, k)
    places = index.expand_as(likeness).gather(-1, best)  # (M, N, k)
    views = torch.arange(len(tokens), device=tokens.device)[:, None, None]
    return tokens[views, places], inside.expand_as(likeness).gather(-1, best)


def _neighbour_index(grid: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    h, w = grid
    y, x = (torch.arange(size, device=device) for size in grid)
    steps = torch.tensor(NEIGHBOUR_STEPS, device=device)
    rows, columns = y[:, None, None] + steps[:, 0], x[None, :, None] + steps[:, 1]  # (h, 1, 8), (1, w, 8)
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    index = rows.clamp(0, h - 1) * w + columns.clamp(0, w - 1)
    return index.flatten(0, 1), inside.flatten(0, 1)


class Selfpatch(Dino):
    """`Dino` with the aggregation and a head for patches."""

    patch_centre: Tensor

    def __init__(self, network: Hybrid | Plain, pool: Views, config: BackboneConfig) -> None:
        super().__init__(network, pool, config)
        self.register_buffer("patch_centre", torch.zeros(config.selfpatch.prototypes))

    def heads(self, config: BackboneConfig) -> dict[str, nn.Module]:
        return {
            **super().heads(config),
            "aggregation": Aggregation(self.channels, config),
            "patch_head": self.new_head(config.selfpatch.prototypes),
        }

    def encode(self, modules: Any, inputs: Tensor) -> ViewOutput:
        states = modules["encoder"].states(inputs)
        summary = modules["aggregation"](states[-1][:, 1:], start=states[-1][:, 0])  # (M, C)
        return ViewOutput(modules["head"](summary), states)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        comparison = self.compare(batch)
        patch = self.patch_loss(comparison.full_size.states[-1][:, 1:], comparison.teacher.states[-1][:, 1:])
        loss = comparison.loss + self.config.selfpatch.weight * patch
        spread = {"usage": comparison.usage, "doubt": comparison.doubt}
        return {"loss": loss, "class": comparison.loss, "patch": patch, **spread}

    def patch_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean cross-entropy of the student's patches (M, N, C) to the teacher's summaries of their neighbours."""
        teacher_modules: Any = self.teacher
        width = round(teacher.shape[1] ** 0.5)  # crops are square
        with torch.no_grad():
            near, present = similar_neighbours(teacher, (width, width), self.config.selfpatch.neighbours)
            summary = teacher_modules["aggregation"](near.flatten(0, 1), present.flatten(0, 1))  # (M * N, C)
            logits = teacher_modules["patch_head"](summary)  # (M * N, P)
            targets = self.teacher_probabilities(logits, self.patch_centre)
        self.means["patch_centre"] = logits.mean(0)
        student_logits = self.student["patch_head"](student.flatten(0, 1)) / self.config.dino.student_temperature
        return -(targets * student_logits.log_softmax(-1)).sum(-1).mean()
