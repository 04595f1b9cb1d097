"""Counts with their noun."""

from __future__ import annotations


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """`1 image`, `2 images`. The default plural is the singular with an `s`."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"
