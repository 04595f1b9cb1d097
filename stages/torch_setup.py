"""Import this before timm, lightning or torchvision.

torchvision from the package index is compiled against CUDA. Beside a CPU-only torch its library cannot be loaded, so
its operators are missing and its import fails. Declaring the schemas of the two operators that it registers at import
is enough, since this project calls neither. Beside the torch that it was built for, its library is loaded here, before
the schemas are declared: registering a schema that has been declared would end the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import torch


def _load_operators() -> None:
    spec = find_spec("torchvision")
    for library in Path(spec.origin).parent.glob("_C*.so") if spec and spec.origin else ():
        with suppress(OSError):
            torch.ops.load_library(str(library))


_load_operators()
_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _name):
        _LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def device_named(name: str) -> str:
    """`auto` becomes `cuda` if there is a GPU, else `cpu`; other names stay."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside the block torch computes in one thread; after it in as many as before. To use more cores, use more
    processes.

    With two threads the last bits of convolutions differ (from 96 px on, torch 2.13, CPU).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
