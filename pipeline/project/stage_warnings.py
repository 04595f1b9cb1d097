"""The warnings of a stage: kept in a file beside its other outputs, so that a cached stage still gives them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pipeline.project.paths import WARNINGS


def warnings_path(stage: str) -> Path:
    """The file, relative to the root of the project.

    Args:
        stage: its name as `burnish run` takes it, such as `download` or `train@mono-pca`.
    """
    return WARNINGS / f"{stage.replace('@', '-')}.json"


def read_warnings(root: Path, stages: Iterable[str]) -> list[tuple[str, str]]:
    """(stage, warning) in the order of the stages. A stage without a file, or with a damaged one, has none."""
    found = []
    for stage in stages:
        try:
            lines = json.loads((root / warnings_path(stage)).read_text("utf-8"))
        except (OSError, ValueError):
            continue
        found += [(stage, str(line)) for line in lines]
    return found
