"""Features in one thread: with two, the convolutions give other last bits (from 96 px on, torch 2.13, CPU)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes in one thread; afterwards in as many as before. To use more cores, use more processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
