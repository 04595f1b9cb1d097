"""held_out.safetensors: results of the training-only model on the good validation images.

`train` writes it if the deployed model is also fitted on validation images, and `infer` copies from it: the threshold
is computed from these results.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.item_cache import Item

RESULTS_FILE = "held_out.safetensors"


def save_results(path: Path, ids: Sequence[str], items: Sequence[Item]) -> None:
    """Write one file with the stacked items of images and the images' digests."""
    from safetensors.numpy import save_file

    digests = np.array([list(bytes.fromhex(name)) for name in ids], np.uint8)  # (N, 32)
    stacked = {name: np.stack([item[name] for item in items]) for name in items[0]}
    # stacked arrays may have another memory order, which safetensors would write unchanged
    save_file({name: np.ascontiguousarray(values) for name, values in {"sha256": digests, **stacked}.items()}, path)


def load_results(path: Path) -> dict[str, Item]:
    """The items that `save_results` wrote, by digest; empty if there is no file."""
    from safetensors.numpy import load_file

    if not path.exists():
        return {}
    stacked = load_file(path)
    digests = stacked.pop("sha256")
    names = [bytes(digest).hex() for digest in digests]
    return {sha: {name: values[i] for name, values in stacked.items()} for i, sha in enumerate(names)}
