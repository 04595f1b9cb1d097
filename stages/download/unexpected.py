"""Warnings about what a person would not expect of the data: one line for each kind and category."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.download.config import WITHOUT_FOLDER, DataConfig
from stages.download.depth import is_dark
from stages.download.found import SourceImage
from stages.download.sources.files import describe_unread, unread_files
from stages.download.take import ImportResult
from stages.images import WHITE_16

LOGGER = logging.getLogger(__name__)
Imported = Sequence[tuple[SourceImage, ImportResult]]
"""Images of the source that are in the data set."""


def warn_of_files(root: Path, config: DataConfig) -> None:
    """Warn about files of the source that are not read."""
    if config.source not in WITHOUT_FOLDER and (unread := unread_files(root)):
        LOGGER.warning(f"files that are not images that can be read are left out: {describe_unread(unread)}")


def warn_of_images(imported: Imported, config: DataConfig, whites: Mapping[str, int]) -> None:
    """Warn about grey values and masks.

    Args:
        whites: category -> grey value that counts as white in files of more than 8 bits.
    """
    for category in config.categories:
        own, white = [entry for entry in imported if entry[0].category == category], whites[category]
        wide = [result.image.largest for _, result in own if result.image.wide]
        if wide and config.bits == "auto" and white != WHITE_16:
            LOGGER.warning(
                f"{category}: files of more than 8 bits hold values up to {max(wide)}, so {white} counts as white "
                f"({white.bit_length()} bits). Set data.bits if the camera has another depth"
            )
        _warn(
            category,
            f"with values above {white}, which are cut off",
            [source.name for source, result in own if result.image.wide and result.image.largest > white],
        )
        _warn(
            category,
            "with less than a tenth of the grey values in use: check exposure and depth",
            [source.name for source, result in own if is_dark(result.image.largest, result.image.wide, white)],
        )
        _warn(
            category,
            "of a defect with a mask that marks no pixel: it counts as without a mask",
            [source.name for source, result in own if result.unmarked and not source.is_good],
        )


def _warn(category: str, what: str, names: Sequence[str]) -> None:
    if names:
        count = "1 image" if len(names) == 1 else f"{len(names)} images"
        LOGGER.warning(f"{category}: {count} {what} (first: {names[0]})")
