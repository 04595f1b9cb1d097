"""One found image and its masks into the data set, with what is known of them from before where they are unchanged."""

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
    max_bytes_for,
    read_unchanged,
    settled,
    state_of,
)
from stages.download.found import Found
from stages.download.index import StatIndex
from stages.download.placing import place
from stages.images import SUFFIXES, ImageFault

COPIED_ABOVE = 127
"""Readers of masks take pixels above this; a single mask with this threshold is copied as it is."""

UNKNOWN = ImageFacts()
Known = tuple[tuple[State, ...], list[Any], bytes] | None
"""States of files, and the facts and bytes that the index has for them."""
Fresh = tuple[tuple[Path, ...], tuple[State, ...], str, tuple[Any, ...], bytes]
"""What the index is to remember: the arguments of `StatIndex.put`."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one found image."""

    path: str = ""
    mask_path: str = ""
    image: ImageFacts = UNKNOWN
    reason: str = ""
    """Why it cannot be used; empty else."""
    unmarked: bool = False
    """It has masks, and they mark no pixel."""
    fresh: tuple[Fresh, ...] = ()


@dataclass(frozen=True)
class Taker:
    """Takes images into the data set at `destination`. The keys name what decides facts beside the files."""

    destination: Path
    min_side: int
    max_pixels: int
    image_key: str
    mask_key: Callable[[int], str]
    """By threshold."""

    def look_up(self, one: Found, index: StatIndex) -> tuple[Known, Known]:
        """What is known of an image and of its masks."""
        masks = _known(one.masks, index, self.mask_key(one.mask_above)) if one.masks else None
        return _known((one.file,), index, self.image_key), masks

    def take(self, one: Found, image: Known, masks: Known) -> Taken:
        """Check the image and its masks, and put them into the data set. Safe to call from several threads.

        `image` and `masks` are what is known from before; where the files have changed since, they are read again.
        """
        if one.name.startswith("/") or ".." in PurePosixPath(one.name).parts:
            return Taken(reason="its name leads out of the category's folder")
        fresh: list[Fresh] = []
        try:
            taken = self._take(one, image, masks, fresh) or self._take(one, None, None, fresh)
            assert taken is not None  # bytes that were just read can be placed
            return taken
        except ImageFault as fault:
            (self.destination / _path(one)).unlink(missing_ok=True)
            return Taken(reason=str(fault), fresh=tuple(fresh))

    def _take(self, one: Found, image: Known, masks: Known, fresh: list[Fresh]) -> Taken | None:
        """None where a file has changed since it was looked up. Raises ImageFault."""
        facts, state, data = self._image(one.file, image, fresh)
        path, mask_path = _path(one), ""
        if one.masks:
            mask, mask_state, content = self._masks(one, masks, fresh)
            _check_mask(one, mask, facts)
            if mask.marked:
                as_it_is = _as_it_is(one)
                mask_path = f"masks/{one.category}/{one.name}{one.masks[0].suffix.lower() if as_it_is else '.png'}"
                if not place(one.masks[0] if as_it_is else None, self.destination / mask_path, mask_state, content):
                    return None
        if not place(one.file, self.destination / path, state, data):
            return None
        return Taken(path, mask_path, facts, unmarked=bool(one.masks) and not mask_path, fresh=tuple(fresh))

    def _image(self, file: Path, known: Known, fresh: list[Fresh]) -> tuple[ImageFacts, State, bytes | None]:
        """Facts, the state that they hold for, and the bytes if they were read."""
        if known is not None:
            facts, state, data = ImageFacts(*known[1]), known[0][0], None
        else:
            data, state = read_unchanged(file, max_bytes_for(self.max_pixels))
            facts = examine_image(data, self.min_side, self.max_pixels)
            _learn(fresh, (file,), (state,), self.image_key, facts, b"")
        if facts.reason:
            raise ImageFault(facts.reason)
        return facts, state, data

    def _masks(self, one: Found, known: Known, fresh: list[Fresh]) -> tuple[MaskFacts, State, bytes | None]:
        """Facts, the first mask's state, and the bytes to write; None: those of the first mask, which were not read."""
        if known is not None:
            return MaskFacts(*known[1]), known[0][0], None if _as_it_is(one) else known[2]
        contents, states = [], []
        for mask in one.masks:
            try:
                data, state = read_unchanged(mask, max_bytes_for(self.max_pixels))
            except ImageFault as fault:
                raise ImageFault(f"its mask {mask.name}: {fault}") from fault
            contents.append((mask.name, data))
            states.append(state)
        facts, png = examine_masks(contents, one.mask_above, self.max_pixels)
        if _as_it_is(one):
            png = b""
        _learn(fresh, one.masks, tuple(states), self.mask_key(one.mask_above), facts, png)
        return facts, states[0], png or contents[0][1]


def _path(one: Found) -> str:
    return f"images/{one.category}/{one.name}"


def _as_it_is(one: Found) -> bool:
    """Whether the mask needs no change for its readers."""
    return len(one.masks) == 1 and one.mask_above == COPIED_ABOVE and one.masks[0].suffix.lower() in SUFFIXES


def _known(paths: tuple[Path, ...], index: StatIndex, key: str) -> Known:
    try:
        states = tuple(state_of(path) for path in paths)
    except OSError:
        return None
    found = index.get(paths, states, key)
    return None if found is None else (states, *found)


def _learn(
    fresh: list[Fresh], paths: tuple[Path, ...], states: tuple[State, ...], key: str, facts: Any, blob: bytes
) -> None:
    if all(map(settled, states)):
        fresh.append((paths, states, key, astuple(facts), blob))


def _check_mask(one: Found, mask: MaskFacts, image: ImageFacts) -> None:
    if mask.reason:
        raise ImageFault(mask.reason)
    name = one.masks[0].name
    if (mask.width, mask.height) != (image.width, image.height):
        raise ImageFault(f"its mask {name} is {mask.width}x{mask.height}, the image {image.width}x{image.height}")
    if one.normal and mask.marked:
        raise ImageFault(f"it counts as normal, and its mask {name} marks {mask.marked:,} defective pixels")
