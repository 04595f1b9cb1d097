"""`burnish predict`: the same scores as the stages, and every way to name images or to get it wrong."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.bundle import champion
from pipeline.bundle.writer import INDEX, digest_of, make_bundle
from pipeline.judge import command
from pipeline.judge.chunks import TOO_LARGE, Batch, judged, opened
from pipeline.judge.command import Options, predict
from pipeline.judge.images import Opened, named, note_on, read
from pipeline.judge.results import Results
from pipeline.project import exit_codes, paths
from pipeline.project.faults import out_of_memory
from pipeline.project.params import load_params
from pipeline.show.overlay import overlay
from pipeline.stage_io.rows import ImageFiles
from stages.download.config import DataConfig
from stages.types import ScoreMap, UserError

PCA = ("pca",)


@pytest.fixture(scope="module")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a bundle, and a folder `new`: two good images, a defective one, a broken one, and words."""
    root = Path(shutil.copytree(finished, tmp_path_factory.mktemp("judging") / "project", symlinks=True))
    make_bundle(load_params(root / "params.yaml"), root)
    new = root / "new"
    (new / "inner").mkdir(parents=True)
    for name, source in (
        ("a.png", "normal/n3.png"),
        ("inner/b.png", "normal/n0.png"),
        ("c.png", "defect/spot/bad0.png"),
    ):
        shutil.copy(root / "data/own" / source, new / name)
    (new / "broken.png").write_bytes((new / "a.png").read_bytes()[:200])
    (new / "words.txt").write_text("no image")
    return root


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project as the working directory."""
    monkeypatch.chdir(project)
    return project


def burnish(
    folder: Path, environment: dict[str, str], *arguments: str, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    environment = {**environment, "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.run(
        command, cwd=folder, env=environment, input=given, capture_output=True, text=True, check=False
    )


def said(stderr: str) -> list[str]:
    """Lines on stderr that are not the progress bar's."""
    return [line for line in stderr.replace("\r", "\n").splitlines() if line.startswith("burnish")]


def judged_rows(out: Path) -> dict[str, dict[str, Any]]:
    """Rows of predictions.parquet by the file's name, once predictions.csv says the same."""
    rows = pq.read_table(out / "predictions.parquet").to_pylist()
    with (out / "predictions.csv").open(encoding="utf-8", newline="") as file:
        told = list(csv.DictReader(file))
    assert told == [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
    return {Path(row["path"]).name: row for row in rows}


def test_test_images_get_what_the_stages_gave_them(project: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """To the byte, away from the project, in batches that are not the stages'."""
    folder = Path(shutil.copytree(project / paths.BUNDLE, tmp_path / "elsewhere"))
    images = str(project / "data/raw/images")
    options = ("--bundle", str(folder), "--detector", "fused", "--detector", "pca", "--batch", "3")
    done = burnish(tmp_path, environment, "predict", images, *options)
    assert done.returncode == 0, done.stderr
    assert said(done.stderr) == []
    assert "8 images: " in done.stdout
    assert "written: judged/predictions.parquet" in done.stdout
    found = pd.read_parquet(tmp_path / "judged/predictions.parquet").set_index("sha256")
    for name in ("ear", "knn", "pca", "fused"):
        stages = pd.read_parquet(project / f"data/predictions/tile-{name}.parquet").set_index("sha256")
        stages = stages[stages["split"] == "test"]  # the others were scored before the model learnt from them
        here = found.loc[stages.index]
        assert here[f"score_{name}"].to_numpy().tobytes() == stages["image_score"].to_numpy().tobytes(), name
        if name == "fused":
            assert (here["verdict"] == "defect").astype(int).tolist() == stages["decision"].tolist()
            assert here["threshold"].tolist() == stages["threshold"].tolist()
            assert here["score"].tolist() == stages["image_score"].tolist()
            assert set(here["verdict"]) == {"good", "defect"}
    assert list(found["path"]) == sorted(found["path"])
    assert found["note"].eq("").all()


def test_json_lines_and_an_exit_code_that_tells_of_defects(project: Path, environment: dict[str, str]) -> None:
    given = "new/a.png\nnew/inner\n\nnew/c.png\nnew/broken.png\nnew/none.png\nnew/a.png\n"
    options = ("--detector", "pca", "--json", "--fail-on-defect")
    done = burnish(project, environment, "predict", "-", *options, given=given)
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
    assert list(judged_rows(project / paths.JUDGED).values()) == rows
    (line,) = said(done.stderr)
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
    rows = judged_rows(tmp_path / "out")
    assert len(rows) == 25
    assert [name for name, row in rows.items() if row["verdict"] != "defect"] == ["13.png"]
    assert rows["13.png"]["note"] == "the file is empty (0 bytes)"
    assert {rows["13.png"][key] for key in ("sha256", "width", "score", "score_pca", "mode", "overlay")} == {None}
    out, err = capsys.readouterr()
    assert "... and 4 more rejected" in out
    assert "25 images: 24 rejected, 1 unreadable" in out
    assert said(err) == [f"burnish: 1 of 25 images could not be read: {many}/13.png (the file is empty (0 bytes))"]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["new"], ["a.png", "broken.png", "c.png", "b.png"]),
        (["new/a.png", "./new/a.png", "new/words.txt"], ["a.png", "words.txt"]),
        (["new/*"], ["a.png", "broken.png", "c.png", "b.png"]),
        (["new/**/[bc]*.png"], ["broken.png", "c.png", "b.png"]),
        (["new/c.png", "new/in*", "empty"], ["c.png", "b.png"]),
        (["odd[1].png"], ["odd[1].png"]),
        (["-"], ["c.png", "a b.png"]),
    ],
)
def test_images_by_file_folder_glob_and_list(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], names: list[str]
) -> None:
    shutil.copytree(project / "new", tmp_path / "new")
    (tmp_path / "empty").mkdir()
    for name in ("odd[1].png", "a b.png"):
        shutil.copy(tmp_path / "new/a.png", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    given = SimpleNamespace(buffer=SimpleNamespace(read=lambda: b"new/c.png\0a b.png\0"))
    monkeypatch.setattr("pipeline.judge.images.sys.stdin", given)
    found, nothing = named(arguments, tmp_path / "out/overlays")
    assert [Path(path).name for path in found] == names
    assert nothing == [one for one in arguments if one == "empty"]


def test_pictures_made_here_are_no_images(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "new", tmp_path / "out/overlays")
    shutil.copy(project / "new/a.png", tmp_path)
    assert named([str(tmp_path)], tmp_path / "out/overlays") == ([str(tmp_path / "a.png")], [])


def test_an_image_is_read_as_in_training(tmp_path: Path) -> None:
    """Any mode and size: the pixels that stages read, and a note that names what differs."""
    noise = np.random.default_rng(0).integers(0, 2**16, (50, 70))
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(noise.astype(np.uint16)).save(tmp_path / "wide.png")
    Image.fromarray((noise >> 8).astype(np.uint8)).save(tmp_path / "turned.png", exif=turned)
    Image.fromarray(np.full((40, 40), 7, np.uint8)).convert("RGBA").save(tmp_path / "clear.png")
    training = {"width": [40, 40], "height": [40, 60], "modes": ["L", "RGB"]}
    for name, note in (
        ("wide.png", "width 70, in training 40; mode I;16, in training L RGB"),
        ("turned.png", "width 50, in training 40; height 70, in training 40 to 60"),
        ("clear.png", "mode RGBA, in training L RGB"),
    ):
        opened = read(str(tmp_path / name), (32, 64), DataConfig())
        assert note_on(opened, training) == note
        for side in (32, 64):
            assert np.array_equal(opened.squares[side], ImageFiles([tmp_path / name], side)[0])
    assert read(str(tmp_path / "wide.png"), (32,), DataConfig(max_pixels=3499)).fault.endswith("data.max_pixels = 3499")
    assert "it cannot be read" in read(str(tmp_path), (32,), DataConfig()).fault


def test_another_mode_and_size_is_judged_with_a_note(here: Path, tmp_path: Path) -> None:
    image = Image.open("new/a.png")
    Image.fromarray(np.asarray(image).astype(np.uint16) * 257).save(tmp_path / "wide.png")
    assert predict([str(tmp_path / "wide.png"), "new/a.png"], Options(detectors=PCA, out=tmp_path / "out")) == 0
    rows = judged_rows(tmp_path / "out")
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
        (("new/a.png", "--bundle", "nowhere"), "no bundle in nowhere: `burnish bundle` makes it"),
    ],
)
def test_wrong_arguments_are_one_line(
    project: Path, environment: dict[str, str], arguments: tuple[str, ...], words: str
) -> None:
    done = burnish(project, environment, "predict", *arguments, given="\n")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"burnish: error: {words}")


def test_when_none_can_be_read_nothing_is_written(here: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2 of 2 images could not be read: new/broken.png"):
        predict(["new/broken.png", "new/words.txt"], Options(detectors=PCA, out=tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_several_categories_need_a_name() -> None:
    bundle: Any = SimpleNamespace(categories=("poly", "mono"))
    with pytest.raises(UserError, match="several categories: say which with --category, one of poly, mono"):
        command._category(bundle, Options())
    assert command._category(bundle, Options(category="mono")) == "mono"


@pytest.mark.parametrize(
    ("scored", "wanted", "expected"),
    [
        (("ear", "pca", "fused"), (), ("fused",)),
        (("ear", "pca"), (), ("ear", "pca")),
        (("ear", "pca", "fused"), ("pca", "fused", "pca"), ("pca", "fused")),
    ],
)
def test_who_decides(scored: tuple[str, ...], wanted: tuple[str, ...], expected: tuple[str, ...]) -> None:
    bundle: Any = SimpleNamespace(detectors=scored)
    assert command._detectors(bundle, Options(detectors=wanted)) == expected


def changed_bundle(project: Path, to: Path, **changes: Any) -> Path:
    """A copy of the bundle with keys of bundle.json changed, and its digest with them."""
    folder = Path(shutil.copytree(project / paths.BUNDLE, to))
    index = {**json.loads((folder / INDEX).read_text()), **changes}
    index.pop("digest")
    (folder / INDEX).write_text(json.dumps({**index, "digest": digest_of(index)}))
    return folder


def test_an_altered_weight_file_is_refused(here: Path, tmp_path: Path) -> None:
    folder = changed_bundle(here, tmp_path / "bundle")
    path = folder / "v1/detectors/tile/pca/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    options = Options(bundle=folder, out=tmp_path / "out", detectors=PCA)
    with pytest.raises(UserError, match=r"pca/model.safetensors was altered: its digest is "):
        predict(["new/a.png"], options)
    path.unlink()
    with pytest.raises(UserError, match=r"pca/model.safetensors is missing"):
        predict(["new/a.png"], options)
    assert not (tmp_path / "out").exists()


def test_without_a_threshold_there_is_a_score_and_no_verdict(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = {"tile": {"pca": {"value": None, "note": "no good validation images to set a threshold from"}}}
    limits = {"tile": {"pca": None}}
    folder = changed_bundle(here, tmp_path / "bundle", thresholds=nothing, map_limits=limits)
    options = Options(bundle=folder, out=tmp_path / "out", detectors=PCA, fail_on_defect=True, overlays=True)
    assert predict(["new/c.png", "new/a.png"], options) == exit_codes.DEFECTS
    row = judged_rows(tmp_path / "out")["c.png"]
    assert (row["verdict"], row["threshold"]) == (None, None)
    assert row["score"] > 0
    assert row["note"] == "no verdict: no good validation images to set a threshold from"
    assert (tmp_path / "out" / row["overlay"]).is_file()
    _, err = capsys.readouterr()
    assert said(err) == ["burnish: 2 images without a verdict: no good validation images to set a threshold from"]


def test_a_score_that_is_no_number_is_not_good(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.judge.models import Models

    plane = np.zeros((4, 4), np.float32)
    monkeypatch.setattr(Models, "judge", lambda *_: [{"pca": ScoreMap(plane, float("nan"))}])
    assert predict(["new/a.png"], Options(out=tmp_path, detectors=PCA, as_json=True)) == 0
    row = judged_rows(tmp_path)["a.png"]
    assert (row["verdict"], row["score"], row["score_pca"]) == (None, None, None)
    assert row["note"] == "no verdict: the score is not a finite number"


def test_a_bundle_of_another_run_or_of_other_code_is_used_and_said_so(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = here / "dvc.lock"
    before = lock.read_bytes()
    lock.write_bytes(before + b"\n")
    monkeypatch.setattr("pipeline.bundle.reader.code_here", lambda: "other")
    try:
        assert predict(["new/a.png"], Options(out=tmp_path, detectors=PCA)) == 0
    finally:
        lock.write_bytes(before)
    assert said(capsys.readouterr().err) == [
        "burnish: the bundle is of another dvc.lock than the project's; `burnish bundle` renews it",
        "burnish: the bundle was made with other code of the stages: scores may differ from those that set its"
        " thresholds",
    ]


def test_the_champion_judges_until_another_bundle_is_named(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "project"
    shutil.copytree(project, copy, symlinks=True)
    champion.install(copy, "v0.3.0", lambda folder: shutil.copytree(copy / paths.BUNDLE, folder, dirs_exist_ok=True))
    champion.switch(copy, "v0.3.0")
    (copy / "dvc.lock").write_text("")  # that of another run, as retraining leaves the checkout
    monkeypatch.chdir(copy)
    picture = str(next((copy / "data/own/normal").glob("*.png")))
    assert predict([picture], Options()) == 0
    told = said(capsys.readouterr().err)
    assert told == ["burnish: judging with the champion v0.3.0; `--bundle data/bundle` takes the latest run's models"]
    assert predict([picture], Options(bundle=paths.BUNDLE)) == 0
    assert said(capsys.readouterr().err) == []


def test_models_that_do_not_fit_other_code_are_one_line(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("network.new")

    monkeypatch.setattr("stages.detectors.pca.detector.score", fails)
    with pytest.raises(KeyError):  # same code: a bug of ours
        predict(["new/a.png"], Options(out=tmp_path, detectors=PCA))
    monkeypatch.setattr("pipeline.bundle.reader.code_here", lambda: "other")
    with pytest.raises(UserError, match=r"does not fit this code \(KeyError: 'network.new'\): make the bundle anew"):
        predict(["new/a.png"], Options(out=tmp_path, detectors=PCA))


def test_overlays_of_rejected_images_of_all_or_of_none(here: Path, tmp_path: Path) -> None:
    for wanted, names in ((True, ["000001-a.png", "000002-c.png"]), (None, ["000002-c.png"]), (False, [])):
        predict(["new/a.png", "new/c.png"], Options(out=tmp_path, detectors=PCA, overlays=wanted))
        assert sorted(path.name for path in tmp_path.glob("overlays/*")) == names  # those of the run before are gone
        shown = [row["overlay"] for row in judged_rows(tmp_path).values() if row["overlay"]]
        assert shown == [f"overlays/{name}" for name in names]


def test_the_brightest_spot_of_an_overlay_is_the_defects() -> None:
    plane = np.zeros((8, 8), np.float32)
    plane[2, 5] = 4.0
    image = Image.fromarray(np.full((60, 120), 100, np.uint8)).convert("RGB")
    shown = overlay(image, plane, (0.0, 1.0))
    assert shown.size == (256, 128)
    bright = np.asarray(shown, np.float32).sum(axis=-1)
    row, column = np.unravel_index(int(bright.argmax()), bright.shape)
    assert (row * 8 // 128, column * 8 // 256) == (2, 5)
    assert np.array_equal(np.asarray(overlay(image, plane, (0.0, 4.0))), np.asarray(overlay(image, plane, None)))
    assert overlay(Image.new("RGB", (3000, 2)), plane, None).size == (1024, 1)


def test_a_folder_of_someone_elses_is_left_alone(here: Path, tmp_path: Path) -> None:
    (tmp_path / "overlays").mkdir()
    (tmp_path / "overlays" / "mine.png").write_bytes(b"")
    with pytest.raises(UserError, match="overlays is there and not of an earlier run"):
        predict(["new/c.png"], Options(out=tmp_path, detectors=PCA))
    assert (tmp_path / "overlays" / "mine.png").exists()


def test_an_interrupted_run_leaves_the_earlier_result(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(["new/c.png"], Options(out=tmp_path, detectors=PCA))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Results, "_flush", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(["new/a.png"], Options(out=tmp_path, detectors=PCA))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_rows_are_written_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.judge.results.FLUSH", 3)
    with Results(tmp_path, PCA) as results:
        for number in range(8):
            row = dict.fromkeys(results._columns) | {"path": f"{number}.png", "score_pca": number / 3}
            results.add(row)
            assert len(results._rows) < 3
    assert [row["score_pca"] for row in judged_rows(tmp_path).values()] == [number / 3 for number in range(8)]


def test_a_name_that_is_no_text(here: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"part\xff.png")
    try:
        shutil.copy("new/a.png", tmp_path / name)
    except OSError:
        pytest.skip("this file system takes no such name")
    assert predict([str(tmp_path / name)], Options(out=tmp_path / "out", detectors=PCA, overlays=True)) == 0
    assert list(judged_rows(tmp_path / "out")) == ["part�.png"]


class Few:
    """Models that have memory for `room` images at once."""

    def __init__(self, room: int, fault: Exception) -> None:
        self.room, self.fault, self.asked, self.told = room, fault, list[int](), list[int]()

    def at_most(self, images: int) -> None:
        self.told.append(images)

    def judge(self, ids: Sequence[str], images: dict[int, NDArray[np.uint8]]) -> list[dict[str, ScoreMap]]:
        assert len(images[2]) == len(ids)
        self.asked.append(len(ids))
        if len(ids) > self.room:
            raise self.fault
        return [{"pca": ScoreMap(np.zeros((2, 2), np.float32), float(image.sum()))} for image in images[2]]


class OutOfMemoryError(RuntimeError):
    """As torch.cuda.OutOfMemoryError is called."""


@pytest.mark.parametrize(
    "fault",
    [
        MemoryError("1 TiB"),
        OutOfMemoryError("CUDA"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_out_of_memory_halves_the_batch_and_goes_on(fault: Exception) -> None:
    chunks = [
        [Opened(f"{c}{i}", sha256=f"{c}{i}", squares={2: np.full((2, 2, 3), i, np.uint8)}) for i in range(8)]
        for c in "xy"
    ]
    chunks[0][3] = Opened("x3", fault="broken")
    models, sizes = Few(3, fault), list[int]()
    found = list(judged(models, chunks, Batch(8, sizes.append)))
    assert [image.path for image, _ in found] == [f"{c}{i}" for c in "xy" for i in range(8)]
    assert [None if maps is None else maps["pca"].image_score for _, maps in found] == [
        *(0.0, 12.0, 24.0, None, 48.0, 60.0, 72.0, 84.0),
        *(12.0 * i for i in range(8)),
    ]
    assert sizes == models.told == [4, 2]
    assert models.asked == [7, 4, 2, 2, 2, 1, 2, 2, 2, 2]


def test_memory_for_not_even_one_image_is_one_line() -> None:
    chunk = [Opened("x", squares={2: np.zeros((2, 2, 3), np.uint8)})]
    with pytest.raises(UserError, match=r"out of memory with one image at once \(1 TiB\)"):
        list(judged(Few(0, MemoryError("1 TiB")), [chunk], Batch(2, lambda size: None)))
    assert not out_of_memory(RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        list(judged(Few(0, RuntimeError("shapes do not match")), [chunk], Batch(2, lambda size: None)))


def test_where_memory_is_short_predict_says_so_and_the_scores_stay(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.judge.models import Models

    options = Options(out=tmp_path / "plenty", detectors=PCA, batch=4)
    assert predict(["data/raw/images"], options) == 0
    judge = Models.judge

    def little(self: Models, ids: Sequence[str], images: dict[int, NDArray[np.uint8]]) -> list[dict[str, ScoreMap]]:
        if len(ids) > 1:
            raise MemoryError("1 TiB")
        return judge(self, ids, images)

    monkeypatch.setattr(Models, "judge", little)
    capsys.readouterr()
    assert predict(["data/raw/images"], replace(options, out=tmp_path / "little")) == 0
    told = capsys.readouterr().err
    assert said(told) == [f"burnish: out of memory: from here on {count} at once" for count in ("2 images", "1 image")]
    assert "predict: 100%" in told and "8/8" in told
    assert judged_rows(tmp_path / "little") == judged_rows(tmp_path / "plenty")


def test_images_that_do_not_fit_into_memory_together_are_read_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`b` fails beside others, `c` even alone."""
    tries = Counter[str]()

    def little(path: str, sides: Sequence[int], data: DataConfig) -> Opened:
        tries[path] += 1
        if path == "c" or (path == "b" and tries[path] == 1):
            raise MemoryError
        return Opened(path)

    monkeypatch.setattr("pipeline.judge.chunks.read", little)
    found = list(opened("abcdef", [2], DataConfig(), Batch(4, lambda size: None)))
    assert [[one.path for one in chunk] for chunk in found] == [list("abcd"), list("ef")]
    assert {one.path: one.fault for chunk in found for one in chunk if one.fault} == {"c": TOO_LARGE}


def test_fewer_images_go_through_each_network_where_memory_is_short(finished: Path, tmp_path: Path) -> None:
    """The path of a GPU, taken on the CPU under another name."""
    from pipeline.bundle.reader import open_bundle
    from pipeline.judge.models import Models

    make_bundle(load_params(finished / "params.yaml"), finished, tmp_path / "bundle")
    models = Models(open_bundle(tmp_path / "bundle"), "tile", ("knn",), "cpu:0")
    assert models._features is not None
    backbone, seen = models._features.backbone, list[int]()
    backbone.network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    images = np.full((3, backbone.image_side, backbone.image_side, 3), 99, np.uint8)
    before = models._features.of(images)["raw"]
    models.at_most(2)
    np.testing.assert_allclose(models._features.of(images)["raw"], before, rtol=0.02, atol=0.01)
    assert seen == [64, 2, 2]


def test_what_is_only_compared_is_not_computed(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EAR under one mask, nearest neighbours among one kind of features."""
    from stages.detectors.ear.unet import UNet
    from stages.detectors.shared.nearest import Search

    params = load_params()
    assert params.ear.compare_masks and params.knn.compare_features
    passes, searches = list[str](), list[int]()
    forward, made = UNet.forward, Search.__init__

    def counted(self: UNet, x: Any) -> Any:
        passes.append("ear")
        return forward(self, x)

    def noted(self: Search, memory: Any, *more: Any) -> None:
        searches.append(len(memory.features))
        made(self, memory, *more)

    monkeypatch.setattr(UNet, "forward", counted)
    monkeypatch.setattr(Search, "__init__", noted)
    assert predict(["new"], Options(out=tmp_path, detectors=("fused",))) == 0
    assert len(passes) == 3
    assert len(searches) == 2  # of EAR's mask, and of the deployed features


def test_a_distilled_backbone_takes_the_denoisers_place(finished: Path, tmp_path: Path) -> None:
    from pipeline.bundle.reader import open_bundle
    from pipeline.judge.features import Extractor

    make_bundle(load_params(finished / "params.yaml"), finished, tmp_path / "bundle")
    bundle = open_bundle(tmp_path / "bundle")

    def fitted(part: str) -> Any:
        return bundle.fitted("backbone" if part == "denoiser/distilled" else part)

    denoised, distilled = (Extractor(fitted, True, distilled, "cpu") for distilled in (False, True))
    side = denoised.backbone.image_side
    images = np.full((2, side, side, 3), 99, np.uint8)
    found, other = denoised.of(images), distilled.of(images)
    assert np.array_equal(other["clean"], other["raw"])  # here they are the same network
    assert not np.array_equal(found["clean"], found["raw"])
    assert set(found) == {"raw", "clean", "attention"}


def test_help_needs_no_torch(environment: dict[str, str]) -> None:
    script = (
        "import sys\nfrom pipeline.cli import app\n"
        "try: app(['predict', '--help'])\nexcept SystemExit as end: print('code', end.code)\n"
        "print('loaded', sorted({'torch', 'pandas', 'numpy', 'dvc'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert "loaded []" in done.stdout, done.stdout + done.stderr
    assert "--fail-on-defect" in done.stdout
