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


class ArchiveConfig(Config):
    """An archive (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz) that holds the images, downloaded once."""

    url: str | None = None
    """Where it lies: `https://...`, or a path of this machine. null: the images lie in `data.folder`."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Its digest, 64 hex digits; a download of another digest is refused. null: not checked, and said so."""
    max_gb: Annotated[float, Field(gt=0, le=10_000)] = 20.0
    """Greatest size of the archive, and of what is in it, in GiB."""


class SyntheticConfig(Config):
    """For source `synthetic`: drawn textures with drawn defects, and exact masks."""

    normals: Annotated[int, Field(ge=4, le=1_000_000)] = 200
    """Good images a category."""
    defects: Annotated[int, Field(ge=0, le=1_000_000)] = 60
    """Defective images a category, of each kind (scratch, stain, hole, bent) in turn."""
    side: Annotated[int, Field(ge=32, le=4096)] = 128
    """Side of the images in pixels."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Other seeds, other images."""


class DataConfig(Config):
    """Where images come from, which of them are refused, how they are split."""

    source: SourceName = "elpv"
    """`elpv`: solar cells from the package elpv-dataset. `folder`: your own images below `folder`. `magnetic_tile`,
    `mvtec_ad`, `mvtec_ad2`, `mvtec_loco`, `visa`, `btad`, `kolektor_sdd2`: that data set in its publisher's layout,
    below `folder` or in `archive`. `synthetic`: drawn, for demonstrations."""
    folder: str = "data/own"
    """Where the images lie; for `folder`, with several categories, a folder of the same layout for each, by name (for
    one, either). A single folder around it all is seen through. Changes there make the pipeline stale."""
    archive: ArchiveConfig = ArchiveConfig()
    """An archive that holds the images, downloaded once, in place of `folder`."""
    categories: Annotated[tuple[str, ...], Field(min_length=1)] = ("mono",)
    """Kinds of part, each with detectors of its own. For `elpv`: mono, poly. For a data set of one kind: any name."""
    split: Literal["official", "grouped"] = "official"
    """`official`: test (and validation) images are the publisher's where there are such. `grouped`: always by the hash
    of fold and group, as it is for sources without a published split."""
    fold: Annotated[int, Field(ge=0, le=4)] = 0
    """Which of the five group-aware splits."""
    uncertain: Literal["leave_out", "defect"] = "leave_out"
    """For `elpv`: what becomes of images whose defect probability is neither 0 nor 1."""
    group_pattern: str | None = None
    """Regular expression searched in the path below the category's folder; images whose first group (or whole match)
    agrees never land on both sides of the split. null: the source's own groups; for `folder` each image is one."""
    normal: str = "normal/**"
    """For `folder`: glob of the good images below the category's folder. `**/` stands for any folders, a last `**` for
    all below, `*` for any part of a name; letter case counts."""
    defect: str = "defect/*/**"
    """For `folder`: glob of the defective ones; the folder that the first `*` stands for names the type of defect (if
    it stands for none, the type is `defect`)."""
    mask: str = "masks/{type}/{stem}.*"
    """For `folder`: glob of a defective image's mask; `{type}` and `{stem}` stand for the image's (its path below the
    folder that names the type, or its name alone, without ending). What it matches is a mask and no image."""
    labels: str | None = None
    """For `folder`: CSV file below the category's folder with columns `path` and `label` (empty or `normal`: good; else
    the type of defect), and optional `group`, `mask` and `split` (train, validation, test or empty); paths below that
    folder. It takes the place of the three globs."""
    synthetic: SyntheticConfig = SyntheticConfig()
    """For `synthetic`: how many images, of which size."""
    min_side: Annotated[int, Field(ge=2, le=4096)] = 16
    """Images with a side below this many pixels are rejected."""
    max_pixels: Annotated[int, Field(ge=256)] = 50_000_000
    """Images of more pixels are rejected before they are decoded."""
    max_rejected_fraction: Annotated[float, Field(ge=0, le=1)] = 0.05
    """The run stops when a larger share of the images cannot be used."""
    max_leak_fraction: Annotated[float, Field(ge=0, le=1)] = 0.2
    """A warning stands beside the scores when a larger share of the good test images has a near-duplicate among the
    images that detectors learn from or are calibrated on. Splits by groups had 0.06 to 0.16, random 0.48 to 0.99."""

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
            raise ValueError(f"{value!r}: it is taken below the category's folder, without a leading / and without ..")
        return value

    @field_validator("normal", "defect", "mask")
    @classmethod
    def _is_glob(cls, value: str) -> str:
        try:
            regex(value)
        except re.error as fault:
            raise ValueError(f"glob {value!r}: [] holds no set of letters ({fault})") from fault
        return value

    @field_validator("mask")
    @classmethod
    def _names_image(cls, value: str) -> str:
        if value.count("{stem}") != 1:
            raise ValueError(f"glob {value!r}: it holds {{stem}} once, which stands for the image's name")
        return value

    @model_validator(mode="after")
    def _has_images(self) -> Self:
        if self.source in ("elpv", "synthetic") and self.archive.url is not None:
            raise ValueError(f"archive.url is set, but source `{self.source}` reads no archive")
        return self
