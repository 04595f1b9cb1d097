"""Parameters of the data: where images come from, which are refused, how they are split."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from stages.download.sources.globs import regex
from stages.types import Config

SourceName = Literal[
    "elpv",
    "folder",
    "magnetic_tile",
    "mvtec_ad",
    "mvtec_ad2",
    "mvtec_loco",
    "visa",
    "btad",
    "kolektor_sdd2",
    "synthetic",
]


WITHOUT_FOLDER = ("elpv", "synthetic")
"""Sources that read no folder of the user."""


class ArchiveConfig(Config):
    """An archive (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz) of images, downloaded once."""

    url: str | None = None
    """`https://...`, or a path on this machine. null: the images are in `data.folder`."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """SHA-256 of the archive in hex; another digest is refused. null: not checked.

    With null the run prints the digest of the archive that it used."""
    max_gb: Annotated[float, Field(gt=0, le=10_000)] = 20.0
    """Largest size in GiB of the archive, and of its contents."""


class SyntheticConfig(Config):
    """For source `synthetic`: rendered textures with rendered defects, and exact masks."""

    normals: Annotated[int, Field(ge=4, le=1_000_000)] = 200
    """Good images per category."""
    defects: Annotated[int, Field(ge=0, le=1_000_000)] = 60
    """Defective images per category: scratch, stain, hole and bent in turn."""
    side: Annotated[int, Field(ge=32, le=4096)] = 128
    """Side of the images in pixels."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the rendered images."""


class DataConfig(Config):
    """Where images come from, which images are rejected, and how they are split."""

    source: SourceName = "elpv"
    """`folder`: your own images. `elpv`: solar cells from the package elpv-dataset. `synthetic`: rendered parts. Data
    sets as their publishers lay them out: `magnetic_tile`, `mvtec_ad`, `mvtec_ad2`, `mvtec_loco`, `visa`, `btad`,
    `kolektor_sdd2`. These are read from `folder` or from `archive`."""
    folder: str = "data/own"
    """Folder of the images; with several categories, one sub-folder each. If its files change, the pipeline is out of
    date.

    The sub-folders are for source `folder`; with one category the sub-folder may be left out. If everything is wrapped
    in one extra folder, as in many archives, that folder is skipped."""
    archive: ArchiveConfig = ArchiveConfig()
    """Archive that holds the images; it is downloaded once and replaces `folder`."""
    categories: Annotated[tuple[str, ...], Field(min_length=1)] = ("mono",)
    """Kinds of part; each gets detectors of its own. `elpv` has mono and poly.

    For a data set with a single kind of part, any name will do."""
    split: Literal["official", "grouped"] = "official"
    """`official`: the publisher's split where there is one. `grouped`: by fold and group.

    The publisher's split gives test (and validation) images. The split by fold and group uses a hash of both; it is
    also used for sources without a published split."""
    fold: Annotated[int, Field(ge=0, le=4)] = 0
    """Which of the five group-aware splits, 0 to 4."""
    uncertain: Literal["leave_out", "defect"] = "leave_out"
    """`elpv`: `leave_out` images with an uncertain label, or count them as `defect`.

    A label is uncertain if the defect probability is neither 0 nor 1."""
    group_pattern: str | None = None
    """Regular expression: images whose paths give the same match are never in two splits.

    It is searched in the path below the category's folder. Its first group counts, or the whole match. null: the
    source's own groups; for `folder`, each image is its own group."""
    normal: str = "normal/**"
    """`folder` only: glob of good images. `**/`: any folder, `**`: all below, `*`: any part.

    `**/` matches any folders, a final `**` everything below, `*` any part of a name. Paths start below the category's
    folder. Letter case matters."""
    defect: str = "defect/*/**"
    """`folder` only: glob of defective images; the first `*` matches the defect type.

    The type is the folder that this `*` matches, or `defect` if it matches no folder."""
    mask: str = "masks/{type}/{stem}.*"
    """`folder` only: glob of masks. `{type}`: type of defect, `{stem}`: name without ending.

    `{stem}` is the image's path below the folder of its defect type, or its name alone. A file that this glob matches
    is a mask and never an image."""
    labels: str | None = None
    """`folder` only: CSV file with columns `path` and `label`, in place of the three globs.

    The file is below the category's folder. `label` is empty, `normal`, `good`, `ok`, `pass`, `io` or `0` for a
    good image, else the defect type.
    Optional columns: `group`, `mask` and `split` (train, validation, test or empty). Paths are relative to the
    category's folder."""
    synthetic: SyntheticConfig = SyntheticConfig()
    """`synthetic` only: how many images, and of which size."""
    bits: Literal["auto", 8, 10, 12, 14, 16] = "auto"
    """Bits of grey values in files of more than 8 bits. `auto`: what the training images use.

    A camera of 12 bits writes values up to 4095 into files of 16 bits; then 4095 counts as white. `auto` decides once
    per category, from the largest value of the good training images, and takes the least of 8, 10, 12, 14 and 16 bits
    that holds it. If the camera writes its bits at the upper end of the 16, they use the whole range: choose 16. Files
    of 8 bits and colour files do not depend on this."""
    min_side: Annotated[int, Field(ge=2, le=4096)] = 16
    """An image with a shorter side than this, in pixels, is rejected."""
    max_pixels: Annotated[int, Field(ge=256)] = 50_000_000
    """An image with more pixels is rejected before it is decoded."""
    max_rejected_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    """The run stops if a larger share of the images is rejected."""
    max_leak_fraction: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Near-duplicate share, 0 to 1, above which the scores carry a warning.

    It is the share of the good test images that have a near-duplicate among training and validation images. Splits by
    groups had 0.06 to 0.16, random splits 0.48 to 0.99."""

    @field_validator("categories")
    @classmethod
    def _plain_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(f"category {name!r}: use letters, digits, '_' and '-' only")
        if len(set(value)) != len(value):
            raise ValueError("a category is named twice")
        return value

    @field_validator("group_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as fault:
                raise ValueError(f"not a regular expression: {fault}") from fault
        return value

    @field_validator("normal", "defect", "mask", "labels")
    @classmethod
    def _below(cls, value: str | None) -> str | None:
        if value is not None and (not value or value.startswith(("/", "~")) or ".." in value.split("/")):
            raise ValueError(f"{value!r}: must be below the category's folder, without a leading / and without ..")
        return value

    @field_validator("normal", "defect", "mask")
    @classmethod
    def _is_glob(cls, value: str) -> str:
        try:
            regex(value)
        except re.error as fault:
            raise ValueError(f"glob {value!r}: [] holds an empty or reversed set ({fault})") from fault
        return value

    @field_validator("mask")
    @classmethod
    def _names_image(cls, value: str) -> str:
        if value.count("{stem}") != 1:
            raise ValueError(f"glob {value!r}: must hold {{stem}}, which stands for the image's name, exactly once")
        return value

    @model_validator(mode="after")
    def _has_images(self) -> Self:
        if self.source in WITHOUT_FOLDER and self.archive.url is not None:
            raise ValueError(f"archive.url is set, but source `{self.source}` reads no archive")
        return self
