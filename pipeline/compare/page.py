"""A comparison as one self-contained page, with the flipped images as pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Sequence
from importlib import resources
from typing import Any

from pipeline.compare import words
from pipeline.compare.diff import Diff
from pipeline.compare.flips import Flip
from pipeline.compare.gate import Breach
from pipeline.compare.sides import Side, read_images

SIDE = 240
"""Longest side in pixels of a picture on the page."""
QUALITY = 80


def page(
    diff: Diff,
    a: Side,
    b: Side,
    *,
    detectors: Collection[str] = (),
    categories: Collection[str] = (),
    limit: int = 20,
    breaches: Sequence[Breach] | None = None,
) -> str:
    """HTML. `a`, `b`: the sides that were compared, from which pictures are read; `limit`: flips that get one."""
    from jinja2 import Environment

    rows = words.selected(diff, detectors, categories)
    flips = words.selected_flips(diff, detectors, categories)
    same = words.unchanged(rows)
    template = (resources.files("pipeline.compare") / "page.html.j2").read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        diff=diff,
        words=words,
        rows=words.compared(rows),
        same=same,
        notes=[*words.notes(diff), *words.reasons(rows)],
        summary=words.verdict_line(diff),
        breaches=breaches,
        flips=_with_pictures(flips[:limit], a, b),
        all_flips=flips,
        flips_line=words.flips_line(diff, flips),
    )


def _with_pictures(flips: Sequence[Flip], a: Side, b: Side) -> list[dict[str, Any]]:
    """Each flip with its picture as a data URL, from B or else from A; None where neither has it."""
    found = read_images(b, list(dict.fromkeys(flip.path for flip in flips)))
    missing = [flip.path_a for flip in flips if flip.path not in found]
    older = read_images(a, list(dict.fromkeys(missing))) if missing else {}
    drawn: dict[str, str | None] = {}
    for flip in flips:
        if flip.sha256 not in drawn:
            data = found.get(flip.path) or older.get(flip.path_a)
            drawn[flip.sha256] = None if data is None else _thumbnail(data)
    return [{"flip": flip, "picture": drawn[flip.sha256]} for flip in flips]


def _thumbnail(data: bytes) -> str | None:
    """A JPEG as data URL; None for what cannot be decoded."""
    from stages.images import ImageFault, decode

    try:
        image = decode(data)
    except ImageFault:
        return None
    image.thumbnail((SIDE, SIDE))
    with io.BytesIO() as buffer:
        image.save(buffer, "JPEG", quality=QUALITY)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
