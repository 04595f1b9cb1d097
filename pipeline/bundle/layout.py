"""What writer and reader of a bundle agree on: the names of its files, and the digest of its index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from stages.fusion.members import FUSION

FORMAT = 1
"""Version of the layout. Increase it whenever a reader of the old layout would misread the new layout."""
INDEX = "bundle.json"
MODEL_FILES = ("model.safetensors", "model.json")


def model_part(category: str, detector: str) -> str:
    """The name in the bundle of a detector or the fusion."""
    return f"fused/{category}" if detector == FUSION else f"detectors/{category}/{detector}"


def digest_of(index: Mapping[str, Any]) -> str:
    """sha256 of the content of bundle.json without its `digest`."""
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()
