"""Parameters of the audit."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stages.types import Config


class AuditConfig(Config):
    """What counts as a near-duplicate across splits, and what as a suspect among the good images to learn from."""

    hash_bits: Annotated[int, Field(ge=0, le=256)] = 24
    """Two images are near-duplicates if their perceptual hashes differ in at most so many of 256 bits; unrelated images
    of one kind of part differ in about a hundred."""
    similarity: Annotated[float, Field(gt=0, le=100)] = 6.0
    """They are too if their features are more alike than chance by so many standard deviations."""
    directions: Annotated[int, Field(ge=2, le=4096)] = 128
    """Directions in which features are compared, each of variance one; a category of fewer than four times as many
    images has a quarter of their number."""
    channels: Annotated[int, Field(ge=2, le=4096)] = 64
    """Channels, drawn at random, that the search for suspects reads; more find more and cost the square of it."""
    suspect: Annotated[float, Field(gt=0, le=100)] = 3.5
    """A good image to learn from is suspect if it is stranger than the middle one by so many robust standard deviations
    (median and MAD of the logarithm of its score)."""
