"""`dino`: the student says of one view of an image what the teacher, its own running average, says of another.

Source: Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021: loss eq. 1 to 3, centring
eq. 4, head section 3.1 and appendix; details as in the authors' code. As there, the teacher is what is read afterwards.
Deviations:
- views.py's; neither gradients are clipped nor is the last layer frozen at first, and the weight decay does not rise
  (schedules of hundreds of epochs); the last layer's rows are of length 1 (as with their `norm_last_layer`);
- the mean of the views that go through a head together is taken off its bottleneck, as a batch norm would (the
  authors' `use_bn_in_head`, without scale). Without it, the part that all views share grew in a hundred steps until
  each view got all prototypes alike (README.md);
- the centre starts as the mean of the first step, not as 0.

Legend beside interface.py's: b images a step; V views of each, two of them full-sized; K prototypes.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.backbone.config import BackboneConfig
from stages.backbone.networks.vit import Hybrid, Plain
from stages.backbone.objectives.interface import Draw, Objective, student_input
from stages.backbone.objectives.views import Views, draw_views, take_views

Batch = tuple[Tensor, Tensor]
"""Full-sized views (b, 2, ...) and small ones (b, V - 2, ...)."""


class Head(nn.Module):
    """Norm, three layers, a bottleneck of mean 0 and length 1, and the cosine to each of K prototypes."""

    def __init__(self, channels: int, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        widths = (channels, hidden, hidden, bottleneck)
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck))
        for layer in layers:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.mlp = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])

    def forward(self, x: Tensor) -> Tensor:
        """(M, C) -> logits (M, K) in single precision."""
        found = self.mlp(self.norm(x)).float()  # (M, bottleneck)
        direction = F.normalize(found - found.mean(0), dim=-1)
        return F.linear(direction, F.normalize(self.prototypes.float(), dim=-1)).float()


@dataclass(frozen=True)
class Look:
    """What a network says of M views."""

    logits: Tensor
    """(M, K)."""
    states: list[Tensor]
    """(M, 1 + N, C) after each block, the class token first."""


@dataclass(frozen=True)
class Compared:
    """What student and teacher say of a batch of views."""

    loss: Tensor
    usage: Tensor
    """Entropy of the teacher's mean answer over log K: 0 when all images get one and the same prototype."""
    doubt: Tensor
    """Mean entropy of the teacher's answers over log K: 1 when each image gets all prototypes alike."""
    targets: Tensor
    """(2, b, K) the teacher's answers."""
    wide: Look
    """The student's look at the 2 b full-sized views, all first ones first."""
    narrow: Look | None
    """And at the small ones, if any."""
    taught: Look
    """The teacher's look at the full-sized views."""


class Dino(Objective):
    """Student and teacher: encoder and head each."""

    CROPS_AN_ITEM = 2
    KEEP_BEST = False
    centre: Tensor
    done: Tensor

    def __init__(self, network: Hybrid | Plain, pool: Views, config: BackboneConfig) -> None:
        super().__init__(network, pool, config)
        self.student = nn.ModuleDict({"encoder": self.encoder, **self.heads(config)})
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(config.dino.prototypes))
        self.register_buffer("done", torch.tensor(0))
        self.means: dict[str, Tensor] = {}  # of the teacher's logits in the last batch, by centre

    def heads(self, config: BackboneConfig) -> dict[str, nn.Module]:
        """The modules beside the encoder that the teacher has too."""
        return {"head": self.new_head(config.dino.prototypes)}

    def new_head(self, prototypes: int) -> Head:
        return Head(self.channels, self.config.dino.hidden, self.config.dino.bottleneck, prototypes)

    @classmethod
    def drawing(cls, network: Hybrid | Plain, config: BackboneConfig) -> Draw:
        seen = student_input(network)
        return lambda images, count, seed: draw_views(images, count, config, seen, seed)

    def batch(self, pool: Views, index: Tensor, generator: torch.Generator) -> Batch:
        return take_views(pool, index, self.config.dino.local_views, generator)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`: log K is what a student without any idea pays; `usage`, `doubt` (`Compared`) tell collapse."""
        found = self.compare(batch)
        return {"loss": found.loss, "usage": found.usage, "doubt": found.doubt}

    def compare(self, batch: Batch) -> Compared:
        """The loss between views, and what else the other objectives need."""
        wide, narrow = (_view_first(part) for part in batch)
        images = len(batch[0])
        with torch.no_grad():
            taught = self.look(self.teacher, wide)
            logits = taught.logits.unflatten(0, (2, images))  # (2, b, K)
            targets = self.answers(logits, self.centre)
            most = math.log(targets.shape[-1])
            usage = torch.special.entr(targets.mean((0, 1))).sum() / most
            doubt = torch.special.entr(targets).sum(-1).mean() / most
        self.means["centre"] = logits.mean((0, 1))
        seen = self.look(self.student, wide)
        small = self.look(self.student, narrow) if len(narrow) else None
        said = torch.cat([seen.logits, *([small.logits] if small else [])]).unflatten(0, (-1, images))  # (V, b, K)
        return Compared(self.across(said, targets), usage, doubt, targets, seen, small, taught)

    def look(self, side: Any, inputs: Tensor) -> Look:
        """Views (M, ...) through `student` or `teacher`."""
        states = side["encoder"].states(inputs)
        return Look(side["head"](states[-1][:, 0]), states)

    def answers(self, logits: Tensor, centre: Tensor) -> Tensor:
        """The teacher's logits (..., K) centred (eq. 4), sharpened, as probabilities."""
        return ((logits - centre) / self.temperature()).softmax(-1)

    def across(self, said: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the student's (V, b, K) to the teacher's (2, b, K) over pairs of different views."""
        log = (said / self.config.dino.student_temperature).log_softmax(-1)
        pairs = -(targets[:, None] * log).sum(-1).mean(-1)  # (2, V)
        return (pairs.sum() - pairs.trace()) / (pairs.numel() - 2)

    def temperature(self) -> float:
        """The teacher's at this step."""
        own, rising = self.config.dino, self.config.dino.temperature_warmup * self.config.steps
        through = min(1.0, int(self.done) / rising) if rising else 1.0
        return own.first_temperature + through * (own.teacher_temperature - own.first_temperature)

    def momentum(self) -> float:
        """The teacher's at this step."""
        through = min(1.0, int(self.done) / max(1, self.config.steps))
        return 1 - (1 - self.config.dino.momentum) * (1 + math.cos(math.pi * through)) / 2

    @torch.no_grad()
    def after_step(self) -> None:
        """Teacher and centres follow."""
        share = 1 - self.momentum()
        for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            old.lerp_(new, share)
        kept = self.config.dino.centre_momentum if self.done else 0.0
        for name, mean in self.means.items():
            getattr(self, name).lerp_(mean, 1 - kept)
        self.done += 1

    def finish(self) -> None:
        """The network takes the teacher's weights."""
        self.encoder.load_state_dict(self.teacher["encoder"].state_dict())


def _view_first(views: Tensor) -> Tensor:
    """(b, v, ...) -> (v * b, ...), all first views first."""
    return views.transpose(0, 1).flatten(0, 1)
