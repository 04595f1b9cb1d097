"""Which mask belongs to which defective image of one's own, by the glob `mask`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from stages.download.sources.globs import regex
from stages.types import UserError


@dataclass(frozen=True)
class Kind:
    """The defective images of one type, by what `{stem}` may stand for, and the glob with the type filled in."""

    whole: re.Pattern[str]
    head: re.Pattern[str]
    """What stands before `{stem}`."""
    tail: re.Pattern[str]
    paths: dict[str, list[str]] = field(default_factory=dict)
    """Images by their path below the folder that names the type, without ending."""
    names: dict[str, list[str]] = field(default_factory=dict)
    """Images by their name without ending."""

    def owners(self, mask: str) -> list[str]:
        """Images whose `{stem}` makes the glob match the mask; the longest stem has it, a path before a name."""
        if not self.whole.fullmatch(mask):
            return []
        starts = [at for at in range(len(mask)) if self.head.fullmatch(mask, 0, at)]
        ends = [at for at in range(1, len(mask) + 1) if self.tail.fullmatch(mask, at)]
        stems = [mask[start:end] for start in starts for end in ends if start < end]
        for stem in sorted(stems, key=len, reverse=True):
            if owners := self.paths.get(stem) or self.names.get(stem):
                return owners
        return []


def match_masks(
    glob: str, masks: Iterable[str], defects: Mapping[str, tuple[str, str]], base: Path
) -> tuple[dict[str, list[str]], list[str]]:
    """Masks of each defective image, and the masks that belong to none.

    Args:
        glob: parameter `mask`, with one `{stem}`.
        masks: paths of the files that the glob matches.
        defects: type, and path below the folder that names it, by path of the image.
        base: the category's folder, for messages.

    Raises:
        UserError: a mask fits several images.
    """
    kinds = _kinds(glob, defects)
    found: dict[str, list[str]] = {}
    orphans: list[str] = []
    for mask in masks:
        owners = [owner for kind in kinds for owner in kind.owners(mask)]
        if len(owners) > 1:
            raise UserError(
                f"{base / mask}: by data.mask = {glob!r} it is the mask of {owners[0]} and of {owners[1]}; rename it"
            )
        if owners:
            found.setdefault(owners[0], []).append(mask)
        else:
            orphans.append(mask)
    return found, orphans


def _kinds(glob: str, defects: Mapping[str, tuple[str, str]]) -> list[Kind]:
    head, _, tail = glob.partition("{stem}")
    kinds: dict[str, Kind] = {}
    for path, (kind, below) in defects.items():
        if kind not in kinds:
            kinds[kind] = Kind(regex(glob, kind), regex(head, kind), regex(tail, kind))
        stem = PurePosixPath(below).with_suffix("")
        kinds[kind].paths.setdefault(stem.as_posix(), []).append(path)
        kinds[kind].names.setdefault(stem.name, []).append(path)
    return list(kinds.values())
