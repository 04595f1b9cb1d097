"""Parameters of the audit."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stages.types import Config


class AuditConfig(Config):
    """Which images are near-duplicates across splits, and which good images are suspects."""

    hash_bits: Annotated[int, Field(ge=0, le=256)] = 24
    """Copies of a picture have perceptual hashes that differ in at most this many of 256 bits.

    Unrelated images of one kind of part differ in about a hundred bits, but other parts in the same pose in as few. So
    such a pair is held against each other by `same_picture`."""
    same_picture: Annotated[float, Field(ge=-1, le=1)] = 0.4
    """Smallest agreement of fine detail of two copies: 0 as of other images, 1 the same.

    Images whose features are as alike as `similarity` asks need no such correlation."""
    similarity: Annotated[float, Field(gt=0, le=100)] = 6.0
    """Smallest feature similarity of near-duplicates, in standard deviations above chance.

    Two images count as near-duplicates from this similarity on, whatever their hashes."""
    directions: Annotated[int, Field(ge=2, le=4096)] = 128
    """Principal directions in which features are compared, each scaled to variance one.

    A category with fewer than four times as many images uses a quarter of its number of images instead."""
    channels: Annotated[int, Field(ge=2, le=4096)] = 64
    """Randomly chosen channels that the search for suspects reads.

    More channels find more; the cost grows with their square."""
    suspect: Annotated[float, Field(gt=0, le=100)] = 3.5
    """Robust standard deviations above the median beyond which a score makes a suspect.

    Suspects are good training and validation images. Median and MAD are those of the logarithm of the scores."""
