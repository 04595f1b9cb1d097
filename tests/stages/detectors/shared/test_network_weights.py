"""The weights of a network as arrays, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from stages.detectors.shared.named_arrays import arrays_below
from stages.detectors.shared.network_weights import load_weights, weights_of


def test_weights_come_back_among_other_arrays() -> None:
    first, second = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    arrays = weights_of(first)
    assert all(name.startswith("network.") for name in arrays)
    load_weights(second, {"other": np.zeros(1), **arrays})
    states = (first.state_dict(), second.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_arrays_below_a_prefix_lose_it() -> None:
    arrays = {"a.x": np.zeros(1), "a.b.y": np.ones(1), "ab.z": np.ones(2)}
    assert {name: len(values) for name, values in arrays_below(arrays, "a.").items()} == {"x": 1, "b.y": 1}
