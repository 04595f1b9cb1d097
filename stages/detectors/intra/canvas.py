"""The shape of what InTra paints: an image's pixels, or its tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Canvas:
    """A square of pixels or cells, cut into square patches."""

    side: int
    """S: pixels or cells along a side."""
    patch: int
    """K: pixels or cells along a side of a patch."""
    channels: int
    """Values of a pixel or cell."""
    start: float
    """Value that an untrained network paints: mid-grey, or the mean of good images' tokens."""

    @property
    def grid(self) -> int:
        """G: patches along a side (N = M of the paper)."""
        return self.side // self.patch

    @property
    def values(self) -> int:
        """P: values of a patch, in the order row, column, channel."""
        return self.patch * self.patch * self.channels
