"""held_out.safetensors: what the good validation images got from the model that had not learned from them.

`train` writes it where the deployed model is also fitted on validation images, and `infer` copies from it: the
threshold comes from these results.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.item_cache import Item

FILE = "held_out.safetensors"


def save_results(path: Path, ids: Sequence[str], items: Sequence[Item]) -> None:
    """One file of images' items, stacked, and of their digests."""
    from safetensors.numpy import save_file

    digests = np.array([list(bytes.fromhex(name)) for name in ids], np.uint8)  # (N, 32)
    stacked = {name: np.stack([item[name] for item in items]) for name in items[0]}
    # what is stacked may lie in another order in memory, which safetensors would write as it lies
    save_file({name: np.ascontiguousarray(values) for name, values in {"sha256": digests, **stacked}.items()}, path)


def load_results(path: Path) -> dict[str, Item]:
    """What `save_results` wrote, by digest; nothing where it wrote nothing."""
    from safetensors.numpy import load_file

    if not path.exists():
        return {}
    stacked = load_file(path)
    digests = stacked.pop("sha256")
    names = [bytes(digest).hex() for digest in digests]
    return {sha: {name: values[i] for name, values in stacked.items()} for i, sha in enumerate(names)}
