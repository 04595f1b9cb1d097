"""Values that the configuration refuses."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.stages.detectors.ear.tiny import config


def test_image_side_must_be_what_the_network_can_halve() -> None:
    assert config(image_side=32).image_side == 32
    with pytest.raises(ValidationError, match=r"image_side 18 .* 2\^depth = 4"):
        config(image_side=18, depth=2)
    with pytest.raises(ValidationError, match="image_side 16 "):
        config(image_side=16, depth=4)
    with pytest.raises(ValidationError, match=r"the grid of token_side / patch 12 .* 2\^depth = 8"):
        config(space="tokens", token_side=96, depth=3)
    assert config(space="tokens", token_side=96, depth=3, features="raw").depth == 3  # the grid is not known yet


def test_mosaic_scales_that_are_refused() -> None:
    with pytest.raises(ValidationError, match="names a scale twice"):
        config(mosaic_scales=(2, 2))
    with pytest.raises(ValidationError, match="mosaic scale 32 is larger than image_side 16"):
        config(mosaic_scales=(2, 32))
    with pytest.raises(ValidationError):
        config(mosaic_scales=())
