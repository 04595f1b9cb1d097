"""Imports one image and its masks into the data set; facts of unchanged files come from the index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stages.download.examine import (
    ImageFacts,
    MaskFacts,
    State,
    examine_image,
    examine_masks,
    is_settled,
    max_bytes_for,
    read_unchanged,
    state_of,
)
from stages.download.found import SourceImage
from stages.download.index import StatIndex
from stages.download.placing import place
from stages.images import SUFFIXES, ImageFault

UNKNOWN = ImageFacts()
CachedFacts = tuple[tuple[State, ...], list[Any], bytes] | None
"""States of files, and the facts and bytes that the index has for them; None: the index has none."""
IndexEntry = tuple[tuple[Path, ...], tuple[State, ...], str, tuple[Any, ...], bytes]
"""What the index is to remember: the arguments of `StatIndex.put`."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Where an image and its mask were put, or why the image was rejected."""

    path: str = ""
    mask_path: str = ""
    image: ImageFacts = UNKNOWN
    reason: str = ""
    """Why the image cannot be used; empty if it can."""
    unmarked: bool = False
    """The image has masks, and they mark no pixel."""
    entries: tuple[IndexEntry, ...] = ()


@dataclass(frozen=True)
class ImageImporter:
    """Imports images into the data set at `destination`. The keys name what facts depend on beside the files."""

    destination: Path
    min_side: int
    max_pixels: int
    image_key: str
    mask_key: Callable[[int], str]
    """Threshold of a mask -> key."""

    def look_up(self, source: SourceImage, index: StatIndex) -> tuple[CachedFacts, CachedFacts]:
        """What the index knows of the image and of its masks."""
        masks = _look_up(source.masks, index, self.mask_key(source.mask_above)) if source.masks else None
        return _look_up((source.file,), index, self.image_key), masks

    def import_image(self, source: SourceImage, image: CachedFacts, masks: CachedFacts) -> ImportResult:
        """Check the image and its masks, and put them into the data set. Safe to call from several threads.

        `image` and `masks` are the facts from `look_up`; files that have changed since are read again.
        """
        if source.name.startswith("/") or ".." in PurePosixPath(source.name).parts:
            return ImportResult(reason="its name leads out of the category's folder")
        entries: list[IndexEntry] = []
        try:
            result = self._import(source, image, masks, entries) or self._import(source, None, None, entries)
            assert result is not None  # bytes that were just read can be placed
            return result
        except ImageFault as fault:
            (self.destination / _path(source)).unlink(missing_ok=True)
            return ImportResult(reason=str(fault), entries=tuple(entries))

    def _import(
        self, source: SourceImage, image: CachedFacts, masks: CachedFacts, entries: list[IndexEntry]
    ) -> ImportResult | None:
        """None where a file has changed since it was looked up. Raises ImageFault."""
        facts, state, data = self._image(source.file, image, entries)
        path, mask_path = _path(source), ""
        if source.masks:
            mask, mask_state, content = self._masks(source, masks, entries)
            _check_mask(source, mask, facts)
            if mask.marked:
                unchanged = _is_copied(source, mask)
                suffix = source.masks[0].suffix.lower() if unchanged else ".png"
                mask_path = f"masks/{source.category}/{source.name}{suffix}"
                mask_file = source.masks[0] if unchanged else None
                if not place(mask_file, self.destination / mask_path, mask_state, content):
                    return None
        if not place(source.file, self.destination / path, state, data):
            return None
        return ImportResult(
            path, mask_path, facts, unmarked=bool(source.masks) and not mask_path, entries=tuple(entries)
        )

    def _image(
        self, file: Path, cached: CachedFacts, entries: list[IndexEntry]
    ) -> tuple[ImageFacts, State, bytes | None]:
        """Facts, the state that they hold for, and the bytes if the file was read."""
        if cached is not None:
            facts, state, data = ImageFacts(*cached[1]), cached[0][0], None
        else:
            data, state = read_unchanged(file, max_bytes_for(self.max_pixels))
            facts = examine_image(data, self.min_side, self.max_pixels)
            _remember(entries, (file,), (state,), self.image_key, facts, b"")
        if facts.reason:
            raise ImageFault(facts.reason)
        return facts, state, data

    def _masks(
        self, source: SourceImage, cached: CachedFacts, entries: list[IndexEntry]
    ) -> tuple[MaskFacts, State, bytes | None]:
        """Facts, the first mask's state, and the bytes to write; None: the first mask's bytes, which were not read."""
        if cached is not None:
            facts = MaskFacts(*cached[1])
            return facts, cached[0][0], None if _is_copied(source, facts) else cached[2]
        contents, states = [], []
        for mask in source.masks:
            try:
                data, state = read_unchanged(mask, max_bytes_for(self.max_pixels))
            except ImageFault as fault:
                raise ImageFault(f"its mask {mask.name}: {fault}") from fault
            contents.append((mask.name, data))
            states.append(state)
        facts, png = examine_masks(contents, source.mask_above, self.max_pixels)
        if _is_copied(source, facts):
            png = b""
        _remember(entries, source.masks, tuple(states), self.mask_key(source.mask_above), facts, png)
        return facts, states[0], png or contents[0][1]


def _path(source: SourceImage) -> str:
    return f"images/{source.category}/{source.name}"


def _is_copied(source: SourceImage, mask: MaskFacts) -> bool:
    """Whether the mask is copied as it is: its readers need no change."""
    return mask.plain and source.masks[0].suffix.lower() in SUFFIXES


def _look_up(paths: tuple[Path, ...], index: StatIndex, key: str) -> CachedFacts:
    try:
        states = tuple(state_of(path) for path in paths)
    except OSError:
        return None
    entry = index.get(paths, states, key)
    return None if entry is None else (states, *entry)


def _remember(
    entries: list[IndexEntry], paths: tuple[Path, ...], states: tuple[State, ...], key: str, facts: Any, blob: bytes
) -> None:
    if all(map(is_settled, states)):
        entries.append((paths, states, key, astuple(facts), blob))


def _check_mask(source: SourceImage, mask: MaskFacts, image: ImageFacts) -> None:
    if mask.reason:
        raise ImageFault(mask.reason)
    name = source.masks[0].name
    if (mask.width, mask.height) != (image.width, image.height):
        raise ImageFault(f"its mask {name} is {mask.width}x{mask.height}, the image {image.width}x{image.height}")
    if source.is_good and mask.marked:
        raise ImageFault(f"it counts as normal, and its mask {name} marks {mask.marked:,} defective pixels")
