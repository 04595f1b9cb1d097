"""Fixtures for the tests of networks."""

from __future__ import annotations

import functools

import pytest

from tests.stages.backbone.networks.checkpoint_files import CREATE, SIZES

import timm  # isort: skip  (after torch_setup, which checkpoint_files imports)


@pytest.fixture
def tiny_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of timm by their own names, but with four narrow blocks."""
    monkeypatch.setattr(timm, "create_model", functools.partial(CREATE, **SIZES))
