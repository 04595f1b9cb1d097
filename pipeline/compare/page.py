"""A comparison as one self-contained HTML page, with pictures of the flipped images."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Sequence
from importlib import resources
from typing import Any

from pipeline.compare import formatting
from pipeline.compare.diff import Diff
from pipeline.compare.flips import Flip
from pipeline.compare.gate import Breach
from pipeline.compare.read_side import read_images
from pipeline.compare.sides import Side

PICTURE_SIDE = 240
"""Longest side of a picture on the page, in pixels."""
QUALITY = 80
"""Of the JPEG, 1 to 95."""


def diff_as_html(
    diff: Diff,
    a: Side,
    b: Side,
    *,
    detectors: Collection[str] = (),
    categories: Collection[str] = (),
    limit: int = 20,
    breaches: Sequence[Breach] | None = None,
) -> str:
    """A comparison as HTML.

    Args:
        a, b: the compared sides, from which the pictures are read.
        detectors, categories: include only these; none: all.
        limit: largest number of flips with a picture.
        breaches: of the gate; None: no gate was given.
    """
    from jinja2 import Environment

    rows = formatting.select_rows(diff, detectors, categories)
    flips = formatting.select_flips(diff, detectors, categories)
    template = (resources.files("pipeline.compare") / "page.html.j2").read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        diff=diff,
        formatting=formatting,
        rows=formatting.rows_to_show(rows),
        identical=formatting.identical_detectors(rows),
        notes=[*formatting.describe_sides(diff), *formatting.describe_reasons(rows)],
        summary=formatting.headline_verdicts(diff),
        breaches=breaches,
        cards=_with_pictures(flips[:limit], a, b),
        flip_count=len(flips),
        flips_summary=formatting.describe_flips(diff, flips),
    )


def _with_pictures(flips: Sequence[Flip], a: Side, b: Side) -> list[dict[str, Any]]:
    """Each flip with its picture as a data URL, from B or else from A; None if neither side has the file."""
    images_b = read_images(b, list(dict.fromkeys(flip.path for flip in flips)))
    missing = [flip.path_a for flip in flips if flip.path not in images_b]
    images_a = read_images(a, list(dict.fromkeys(missing))) if missing else {}
    pictures: dict[str, str | None] = {}
    for flip in flips:
        if flip.sha256 not in pictures:
            data = images_b.get(flip.path) or images_a.get(flip.path_a)
            pictures[flip.sha256] = None if data is None else _thumbnail(data)
    return [{"flip": flip, "picture": pictures[flip.sha256]} for flip in flips]


def _thumbnail(data: bytes) -> str | None:
    """A JPEG as a data URL; None if the file cannot be decoded."""
    from stages.images import ImageFault, decode

    try:
        image = decode(data)
    except ImageFault:
        return None
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    with io.BytesIO() as buffer:
        image.save(buffer, "JPEG", quality=QUALITY)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
