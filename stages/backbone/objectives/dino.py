"""`dino`: the student predicts for one view of an image what the teacher, its own running average, gives for another
view.

Source: Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021: loss eq. 1 to 3, centring
eq. 4, head section 3.1 and appendix; details as in the authors' code. As there, the teacher is the network that is read
afterwards.
Deviations:
- Those of views.py. Gradients are not clipped, the last layer is not frozen at first, and the weight decay does not
  rise (schedules of hundreds of epochs); the last layer's rows have length 1 (as with their `norm_last_layer`).
- The mean of the views that pass through a head together is subtracted from its bottleneck, as a batch norm would do
  (the authors' `use_bn_in_head`, without scale). Without it, the part that all views share grew within a hundred steps
  until each view got all prototypes alike (README.md).
- The centre starts as the mean of the first step, not as 0.

Legend, in addition to interface.py's: b images per step; V views of each, two of them full-size; K prototypes.
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
from stages.backbone.objectives.interface import Objective, PoolSampler, student_input
from stages.backbone.objectives.views import Views, sample_views, select_views

Batch = tuple[Tensor, Tensor]
"""Full-size views (b, 2, ...) and small views (b, V - 2, ...)."""


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
        projected = self.mlp(self.norm(x)).float()  # (M, bottleneck)
        direction = F.normalize(projected - projected.mean(0), dim=-1)
        return F.linear(direction, F.normalize(self.prototypes.float(), dim=-1)).float()


@dataclass(frozen=True)
class ViewOutput:
    """A network's output for M views."""

    logits: Tensor
    """(M, K)."""
    states: list[Tensor]
    """(M, 1 + N, C) after each block, the class token first."""


@dataclass(frozen=True)
class ViewComparison:
    """Outputs of student and teacher for a batch of views, and the loss between them."""

    loss: Tensor
    usage: Tensor
    """Entropy of the teacher's mean output over log K: 0 when all images get the same prototype."""
    doubt: Tensor
    """Mean entropy of the teacher's outputs over log K: 1 when each image gets all prototypes alike."""
    targets: Tensor
    """(2, b, K) the teacher's probabilities."""
    full_size: ViewOutput
    """The student's output for the 2 b full-size views, first views first."""
    small: ViewOutput | None
    """The student's output for the small views; None without small views."""
    teacher: ViewOutput
    """The teacher's output for the full-size views."""


class Dino(Objective):
    """Student and teacher, each with encoder and head."""

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
    def pool_sampler(cls, network: Hybrid | Plain, config: BackboneConfig) -> PoolSampler:
        to_tensors = student_input(network)
        return lambda images, count, seed: sample_views(images, count, config, to_tensors, seed)

    def batch(self, pool: Views, index: Tensor, generator: torch.Generator) -> Batch:
        return select_views(pool, index, self.config.dino.local_views, generator)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """`loss`: log K is the loss of a student that has learned nothing; `usage` and `doubt` (`ViewComparison`) show
        collapse."""
        comparison = self.compare(batch)
        return {"loss": comparison.loss, "usage": comparison.usage, "doubt": comparison.doubt}

    def compare(self, batch: Batch) -> ViewComparison:
        """The loss between views, and the outputs that derived objectives need."""
        full_views, small_views = (_view_first(part) for part in batch)
        images = len(batch[0])
        with torch.no_grad():
            teacher = self.encode(self.teacher, full_views)
            logits = teacher.logits.unflatten(0, (2, images))  # (2, b, K)
            targets = self.teacher_probabilities(logits, self.centre)
            most = math.log(targets.shape[-1])
            usage = torch.special.entr(targets.mean((0, 1))).sum() / most
            doubt = torch.special.entr(targets).sum(-1).mean() / most
        self.means["centre"] = logits.mean((0, 1))
        full = self.encode(self.student, full_views)
        small = self.encode(self.student, small_views) if len(small_views) else None
        own = torch.cat([full.logits, *([small.logits] if small else [])]).unflatten(0, (-1, images))  # (V, b, K)
        return ViewComparison(self.cross_view_loss(own, targets), usage, doubt, targets, full, small, teacher)

    def encode(self, modules: Any, inputs: Tensor) -> ViewOutput:
        """Views (M, ...) through the modules of `student` or `teacher`."""
        states = modules["encoder"].states(inputs)
        return ViewOutput(modules["head"](states[-1][:, 0]), states)

    def teacher_probabilities(self, logits: Tensor, centre: Tensor) -> Tensor:
        """The teacher's logits (..., K), centred (eq. 4) and sharpened, as probabilities."""
        return ((logits - centre) / self.temperature()).softmax(-1)

    def cross_view_loss(self, student_logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the student's logits (V, b, K) to the teacher's probabilities (2, b, K), over pairs of
        different views."""
        log_probabilities = (student_logits / self.config.dino.student_temperature).log_softmax(-1)
        pairs = -(targets[:, None] * log_probabilities).sum(-1).mean(-1)  # (2, V)
        return (pairs.sum() - pairs.trace()) / (pairs.numel() - 2)

    def temperature(self) -> float:
        """The teacher's temperature at this step."""
        own, rising = self.config.dino, self.config.dino.temperature_warmup * self.config.steps
        fraction = min(1.0, int(self.done) / rising) if rising else 1.0
        return own.first_temperature + fraction * (own.teacher_temperature - own.first_temperature)

    def momentum(self) -> float:
        """The teacher's momentum at this step."""
        fraction = min(1.0, int(self.done) / max(1, self.config.steps))
        return 1 - (1 - self.config.dino.momentum) * (1 + math.cos(math.pi * fraction)) / 2

    @torch.no_grad()
    def after_step(self) -> None:
        """Update teacher and centres."""
        share = 1 - self.momentum()
        for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            old.lerp_(new, share)
        kept = self.config.dino.centre_momentum if self.done else 0.0
        for name, mean in self.means.items():
            getattr(self, name).lerp_(mean, 1 - kept)
        self.done += 1

    def finish(self) -> None:
        """Copy the teacher's weights into the network."""
        self.encoder.load_state_dict(self.teacher["encoder"].state_dict())


def _view_first(views: Tensor) -> Tensor:
    """(b, v, ...) -> (v * b, ...), first views first."""
    return views.transpose(0, 1).flatten(0, 1)
