"""What surrounds a training: its checkpoint, which survives a kill, and its curves, which are part of the output."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.project import paths


def digest_of(*values: Any) -> str:
    """sha256 (hex) of JSON values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@contextmanager
def training(stage: str, curves: Path, device: str, key: str) -> Iterator[Any]:
    """A `Session` whose checkpoint survives a kill, and whose curves DVCLive writes below `curves`.

    The checkpoint belongs to `key`, a digest of all that the training depends on; it is deleted when the block ends
    without an error.
    """
    from dvclive.live import Live

    import stages.torch_setup  # noqa: F401
    from stages.training import Session

    folder = paths.CHECKPOINTS / stage
    for stale in folder.parent.glob(f"{folder.name}/*"):
        if stale.name != key[:16]:
            shutil.rmtree(stale)
    live = Live(
        dir=str(curves), save_dvc_exp=False, dvcyaml=None, report=None, monitor_system=False, cache_images=False
    )

    def on_epoch(epoch: int, values: Mapping[str, float]) -> None:
        live.step = epoch
        for name, value in values.items():
            live.log_metric(name, value)
        live.make_summary()
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        print(f"\n{stage}: epoch {epoch + 1}  {text}", flush=True)

    yield Session(checkpoint=folder / key[:16], on_epoch=on_epoch, device=device, progress=True)
    live.end()
    shutil.rmtree(folder, ignore_errors=True)
