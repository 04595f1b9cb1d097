"""The weights of a detector's network as arrays of its fitted model, below `network.`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stages.detectors.shared.named_arrays import arrays_below

PREFIX = "network."


def weights_of(network: nn.Module) -> dict[str, NDArray[Any]]:
    """The weights and buffers of a network, by name."""
    return {f"{PREFIX}{name}": value.cpu().numpy() for name, value in network.state_dict().items()}


def load_weights(network: nn.Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Load what `weights_of` returned into a network of the same shape."""
    weights = arrays_below(arrays, PREFIX)
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
