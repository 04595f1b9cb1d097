"""`burnish predict`: the same scores as the stages, exit codes, messages."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.judge.command import predict
from pipeline.judge.options import Options
from pipeline.project import exit_codes, paths
from stages.types import UserError
from tests.pipeline.judge.helpers import PCA, burnish, messages, rows_by_name


def test_test_images_get_what_the_stages_gave_them(project: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Byte-identical, outside the project, in batches of another size than in the stages."""
    folder = Path(shutil.copytree(project / paths.BUNDLE, tmp_path / "elsewhere"))
    images = str(project / "data/raw/images")
    options = ("--bundle", str(folder), "--detector", "fused", "--detector", "pca", "--batch", "3")
    done = burnish(tmp_path, environment, "predict", images, *options)
    assert done.returncode == 0, done.stderr
    assert messages(done.stderr) == []
    assert "8 images: " in done.stdout
    assert "written: judged/predictions.parquet" in done.stdout
    found = pd.read_parquet(tmp_path / "judged/predictions.parquet").set_index("sha256")
    for name in ("ear", "knn", "pca", "fused"):
        stages = pd.read_parquet(project / f"data/predictions/tile-{name}.parquet").set_index("sha256")
        stages = stages[stages["split"] == "test"]  # validation images were scored by the training-only model
        here = found.loc[stages.index]
        assert here[f"score_{name}"].to_numpy().tobytes() == stages["image_score"].to_numpy().tobytes(), name
        if name == "fused":
            assert (here["verdict"] == "defect").astype(int).tolist() == stages["decision"].tolist()
            assert here["threshold"].tolist() == stages["threshold"].tolist()
            assert here["score"].tolist() == stages["image_score"].tolist()
            assert set(here["verdict"]) == {"good", "defect"}
    assert list(found["path"]) == sorted(found["path"])
    assert found["note"].eq("").all()


def test_json_lines_and_an_exit_code_for_defects(project: Path, environment: dict[str, str]) -> None:
    given = "new/a.png\nnew/inner\n\nnew/c.png\nnew/broken.png\nnew/none.png\nnew/a.png\n"
    options = ("--detector", "pca", "--json", "--fail-on-defect")
    done = burnish(project, environment, "predict", "-", *options, stdin=given)
    assert done.returncode == exit_codes.DEFECTS == 3
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    expected = {
        "a.png": "good",
        "b.png": "good",
        "c.png": "defect",
        "broken.png": "unreadable",
        "none.png": "unreadable",
    }
    assert {Path(row["path"]).name: row["verdict"] for row in rows} == expected
    assert list(rows_by_name(project / paths.JUDGED).values()) == rows
    (line,) = messages(done.stderr)
    assert line.startswith("burnish: 2 of 5 images could not be read: new/broken.png (broken or truncated")
    assert "new/none.png (it is not there (any more))" in line
    assert "5 images: 2 good, 1 rejected, 2 unreadable" in done.stderr


def test_without_defects_that_exit_code_is_zero(here: Path, tmp_path: Path) -> None:
    for name, options, code in (
        ("a.png", Options(fail_on_defect=True), 0),
        ("c.png", Options(), 0),
        ("c.png", Options(fail_on_defect=True), 3),
    ):
        options = Options(detectors=PCA, out=tmp_path, fail_on_defect=options.fail_on_defect)
        assert predict([f"new/{name}"], options) == code


def test_many_and_one_that_cannot_be_read(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(25):
        shutil.copy("new/c.png", many / f"{number:02}.png")
    (many / "13.png").write_bytes(b"")
    assert predict([str(many)], Options(detectors=PCA, out=tmp_path / "out")) == 0
    rows = rows_by_name(tmp_path / "out")
    assert len(rows) == 25
    assert [name for name, row in rows.items() if row["verdict"] != "defect"] == ["13.png"]
    assert rows["13.png"]["note"] == "the file is empty (0 bytes)"
    assert {rows["13.png"][key] for key in ("sha256", "width", "score", "score_pca", "mode", "overlay")} == {None}
    out, err = capsys.readouterr()
    assert "... and 4 more rejected" in out
    assert "25 images: 24 rejected, 1 unreadable" in out
    assert messages(err) == [f"burnish: 1 of 25 images could not be read: {many}/13.png (the file is empty (0 bytes))"]


def test_an_image_of_another_mode_and_size_gets_a_note(here: Path, tmp_path: Path) -> None:
    image = Image.open("new/a.png")
    Image.fromarray(np.asarray(image).astype(np.uint16) * 257).save(tmp_path / "wide.png")
    assert predict([str(tmp_path / "wide.png"), "new/a.png"], Options(detectors=PCA, out=tmp_path / "out")) == 0
    rows = rows_by_name(tmp_path / "out")
    assert rows["wide.png"]["note"] == "mode I;16, in training L"
    assert rows["wide.png"]["score"] == rows["a.png"]["score"]
    assert rows["wide.png"]["mode"] == "I;16"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("new/*.tif",), "no images: nothing matches new/*.tif"),
        (("-",), "no images: the list is empty"),
        (("new/a.png", "--category", "tiles"), "--category tiles: the bundle has tile"),
        (("new/a.png", "--detector", "gabor"), "--detector gabor: the bundle has ear, knn, pca, fused"),
        (("new/a.png", "--bundle", "nowhere"), "no bundle in nowhere: `burnish bundle` makes a bundle"),
    ],
)
def test_wrong_arguments_are_one_line(
    here: Path,
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["burnish", "predict", *arguments])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    with pytest.raises(SystemExit, match="1"):
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"burnish: error: {words}")


def test_when_none_can_be_read_nothing_is_written(here: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2 of 2 images could not be read: new/broken.png"):
        predict(["new/broken.png", "new/words.txt"], Options(detectors=PCA, out=tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_name_that_is_no_text(here: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"part\xff.png")
    try:
        shutil.copy("new/a.png", tmp_path / name)
    except OSError:
        pytest.skip("this file system takes no such name")
    assert predict([str(tmp_path / name)], Options(out=tmp_path / "out", detectors=PCA, overlays=True)) == 0
    assert list(rows_by_name(tmp_path / "out")) == ["part�.png"]


def test_help_needs_no_torch(environment: dict[str, str]) -> None:
    script = (
        "import sys\nfrom pipeline.cli.app import app\n"
        "try: app(['predict', '--help'])\nexcept SystemExit as end: print('code', end.code)\n"
        "print('loaded', sorted({'torch', 'pandas', 'numpy', 'dvc'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert "loaded []" in done.stdout, done.stdout + done.stderr
    assert "--fail-on-defect" in done.stdout
