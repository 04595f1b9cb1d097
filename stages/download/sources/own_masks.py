"""Finds the defective image that each of the user's masks belongs to, by the glob `mask`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from stages.download.sources.globs import regex
from stages.types import UserError


@dataclass(frozen=True)
class TypedGlob:
    """The glob `mask` with one defect type filled in, and the defective images of this type by what `{stem}` may stand
    for."""

    whole: re.Pattern[str]
    head: re.Pattern[str]
    """The part of the glob before `{stem}`."""
    tail: re.Pattern[str]
    """The part of the glob after `{stem}`."""
    paths: dict[str, list[str]] = field(default_factory=dict)
    """Images by their path below the folder of their type, without ending."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """Images by their name without ending."""

    def owners(self, mask: str) -> list[str]:
        """Images whose `{stem}` makes the glob match the mask; the longest stem wins, a path before a name."""
        if not self.whole.fullmatch(mask):
            return []
        starts = [start for start in range(len(mask)) if self.head.fullmatch(mask, 0, start)]
        ends = [end for end in range(1, len(mask) + 1) if self.tail.fullmatch(mask, end)]
        stems = [mask[start:end] for start in starts for end in ends if start < end]
        for stem in sorted(stems, key=len, reverse=True):
            if owners := self.paths.get(stem) or self.names.get(stem):
                return owners
        return []


def match_masks(
    glob: str, masks: Iterable[str], defects: Mapping[str, tuple[str, str]], base: Path
) -> tuple[dict[str, list[str]], list[str]]:
    """Masks of each defective image, and the masks that belong to no image.

    Args:
        glob: parameter `mask`, with one `{stem}`.
        masks: paths of the files that the glob matches.
        defects: path of the image -> its type, and its path below the folder named after the type.
        base: the category's folder, for messages.

    Raises:
        UserError: a mask fits several images.
    """
    globs = _typed_globs(glob, defects)
    masks_of: dict[str, list[str]] = {}
    orphans: list[str] = []
    for mask in masks:
        owners = [owner for typed_glob in globs for owner in typed_glob.owners(mask)]
        if len(owners) > 1:
            raise UserError(
                f"{base / mask}: by data.mask = {glob!r} it is the mask of {owners[0]} and of {owners[1]}; rename it"
            )
        if owners:
            masks_of.setdefault(owners[0], []).append(mask)
        else:
            orphans.append(mask)
    return masks_of, orphans


def _typed_globs(glob: str, defects: Mapping[str, tuple[str, str]]) -> list[TypedGlob]:
    head, _, tail = glob.partition("{stem}")
    globs: dict[str, TypedGlob] = {}
    for path, (defect_type, below) in defects.items():
        if defect_type not in globs:
            globs[defect_type] = TypedGlob(regex(glob, defect_type), regex(head, defect_type), regex(tail, defect_type))
        stem = PurePosixPath(below).with_suffix("")
        globs[defect_type].paths.setdefault(stem.as_posix(), []).append(path)
        globs[defect_type].names.setdefault(stem.name, []).append(path)
    return list(globs.values())
