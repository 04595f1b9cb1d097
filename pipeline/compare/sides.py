"""One side of a comparison, a commit or the workspace, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

WORKSPACE = "workspace"


class Key(NamedTuple):
    """What a metric belongs to."""

    category: str
    detector: str

    def __str__(self) -> str:
        return f"{self.category}/{self.detector}"


@dataclass(frozen=True)
class Problem:
    """Why a part of a side cannot be read."""

    reason: str


@dataclass(frozen=True)
class Side:
    """What is known of a commit or of the workspace."""

    root: Path
    name: str
    """The revision as the user typed it, or `workspace`."""
    commit: str | None
    """Full hash. For the workspace: the hash of HEAD."""
    changed_files: tuple[str, ...] = ()
    """For the workspace: tracked files that differ from HEAD."""
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    """metrics.json: category -> detector -> metric -> value."""
    details: Mapping[str, Any] = field(default_factory=dict)
    predictions: Mapping[Key, pd.DataFrame] = field(default_factory=dict)
    """Validation and test images, with those of `stored_tables.PREDICTION_COLUMNS` that the files have."""
    manifest: pd.DataFrame | None = None
    """All images, with the columns `stored_tables.MANIFEST_COLUMNS`."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """`predictions`, `manifest` or `metrics` -> why this part cannot be read."""
    notes: tuple[str, ...] = ()
    """What the reader must know about this side's metrics, one line each."""

    @property
    def is_workspace(self) -> bool:
        return self.name == WORKSPACE

    @property
    def title(self) -> str:
        """Name and commit for display: `main (1a2b3c4)`."""
        if self.commit is None or self.commit.startswith(self.name):
            return self.name
        return f"{self.name} ({self.commit[:7]}{' + changes' if self.changed_files else ''})"

    def figures(self, key: Key) -> Mapping[str, Any]:
        """The metrics of a detector in metrics.json; empty if it has none."""
        return self.metrics.get(key.category, {}).get(key.detector, {})
