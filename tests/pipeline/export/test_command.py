"""The command `burnish export` in a finished project; its files are used without Burnish."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

pytestmark = pytest.mark.long

NAMES = ("backbone", "tile/ear", "tile/knn", "tile/pca", "tile/fused")


@pytest.fixture(scope="module")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(finished, tmp_path_factory.mktemp("exporting") / "project", symlinks=True))


def export(folder: Path, environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**environment, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-m", "pipeline", "export", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


class Exported:
    """The files of a folder, with inputs made as their JSON files describe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.descriptions = {name: json.loads((folder / f"{name}.json").read_text()) for name in NAMES}

    def run(self, name: str, **given: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
        session = onnxruntime.InferenceSession(self._folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        inputs = {
            tensor["name"]: given[tensor["name"]].astype(tensor["type"]) for tensor in self.descriptions[name]["inputs"]
        }
        return dict(
            zip(
                (tensor["name"] for tensor in self.descriptions[name]["outputs"]),
                session.run(None, inputs),
                strict=True,
            )
        )

    def image(self, name: str, file: Path) -> NDArray[np.generic]:
        (_, height, width, _) = next(
            tensor["shape"] for tensor in self.descriptions[name]["inputs"] if tensor["name"] == "image"
        )
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))[None]


def test_the_files_alone_take_an_image_to_the_fused_score(
    project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    inner = project / "inner"
    inner.mkdir()
    done = export(inner, environment, "--onnx", "--out", "line")
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        str(inner / f"line/{name}.onnx") for name in (*NAMES[1:], NAMES[0])
    ]
    assert done.stderr == ""
    exported = Exported(inner / "line")
    stages = {name: pd.read_parquet(project / f"data/predictions/tile-{name}.parquet") for name in ("ear", "fused")}
    test = stages["fused"][stages["fused"]["split"] == "test"]
    assert set(test["decision"]) == {0, 1}
    for row in test.index:
        file = project / "data/raw" / stages["fused"]["path"][row]
        features = exported.run("backbone", image=exported.image("backbone", file))
        members: dict[str, NDArray[np.generic]] = {}
        for name in ("ear", "knn"):
            given = features | ({"image": exported.image("tile/ear", file)} if name == "ear" else {})
            found = exported.run(f"tile/{name}", **given)
            members |= {f"{name}_map": found["anomaly_map"], f"{name}_score": found["image_score"]}
        score = float(exported.run("tile/fused", **members)["image_score"])
        spread = float(np.ptp(test["image_score"]))
        assert score == pytest.approx(test["image_score"][row], abs=2e-3 * spread)
        assert (score > exported.descriptions["tile/fused"]["threshold"]) == bool(test["decision"][row])
    assert exported.descriptions["backbone"]["weights"].items() >= exported.descriptions["tile/ear"]["upstream"].items()


def test_a_file_beyond_the_tolerance_is_one_line_and_exit_code_1(
    project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    options = ("--onnx", "--detector", "pca", "--category", "tile", "--out", str(tmp_path))
    assert export(project, environment, *options).returncode == 0
    done = export(project, environment, *options, "--tolerance", "1e-9")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("burnish: error: tile pca: not exported: over 3 images the scores differ by ")
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize(
    ("options", "message"), [((), "burnish export --onnx"), (("--onnx", "-d", "no"), "unknown detector")]
)
def test_wrong_arguments_are_reported(
    project: Path, environment: dict[str, str], options: tuple[str, ...], message: str
) -> None:
    done = export(project, environment, *options)
    assert done.returncode in (1, 2)
    assert message in done.stderr
