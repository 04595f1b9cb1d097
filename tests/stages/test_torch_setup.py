"""torch's and torchvision's builds may not belong together; either way our import comes before theirs."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.conftest import ROOT


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_operators_of_a_torchvision_that_fits_are_registered_once(tmp_path: Path) -> None:
    """A stand-in for torchvision whose library registers its operators when it is loaded, at its import or before."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision/_C.so").write_bytes(b"")
    (tmp_path / "torchvision/__init__.py").write_text(
        "from pathlib import Path\nimport torch\ntorch.ops.load_library(str(Path(__file__).parent / '_C.so'))\n"
    )
    done = run(
        """
        import sys
        sys.path.insert(0, sys.argv[1])
        import torch
        library, loaded = torch.library.Library("torchvision", "FRAGMENT"), []

        def load(path):
            if not loaded:
                for name in ("nms", "qnms"):
                    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            loaded.append(path)

        torch.ops.load_library = load
        import stages.torch_setup
        import torchvision
        print(len(loaded), torch.ops.torchvision.nms)
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 torchvision.nms")


@pytest.mark.long
def test_timm_and_lightning_import_with_the_installed_builds(tmp_path: Path) -> None:
    done = run("import stages.torch_setup, torchvision, timm, lightning; print('fine')", tmp_path)
    assert done.stdout == "fine\n", done.stderr
