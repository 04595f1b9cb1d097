"""The stages of DVT on a small project: kills, bad images, new images, what is kept of whom."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.stage_io.run_stage import run as run_stage
from stages.array_store import StoredRows
from stages.types import UserError
from tests.conftest import change_params, make_project

Stage = Callable[..., None]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose images and backbone are there."""
    project = make_project(tmp_path_factory.mktemp("denoise") / "project")
    change_params(project, {"denoise": {"images": 20}, "backbone": {"steps": 0}, "compute": {"executor": "serial"}})
    for name in ("download", "pretrain"):
        subprocess.run([sys.executable, "-m", "pipeline", "stage", name], cwd=project, check=True, capture_output=True)
    return project


@pytest.fixture
def ready(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, as working directory."""
    project = tmp_path / "project"
    shutil.copytree(prepared, project, symlinks=True)
    monkeypatch.chdir(project)
    return project


def add_image(project: Path, name: str, pixels: np.ndarray) -> None:
    Image.fromarray(pixels.astype(np.uint8)).save(project / "data/own/normal" / f"{name}.png")
    run_stage("download")


def noise(seed: int, side: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).normal(120, 30, (side, side)).clip(0, 255)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def counts(stage: str = "denoise") -> dict[str, int]:
    found: dict[str, int] = json.loads(Path(f"data/logs/{stage}.counts.json").read_text())
    return found


KILLED = """
    import os, signal, sys
    import pipeline.stage_io.denoise as stage
    from pipeline.project.params import load_params
    import stages.backbone.networks.load
    from stages.denoise.per_image import denoise, least_squares, shared

    def run(limit):
        \"\"\"The stage in a process of its own, killed at call `limit` of our code; how many calls it made.\"\"\"
        out, into = os.pipe()
        child = os.fork()
        if not child:
            calls = 0
            def at_call(frame, event, argument):
                nonlocal calls
                ours = any(part in frame.f_code.co_filename for part in ("/stages/", "/pipeline/", "/zarr/storage/"))
                if event == "call" and ours:
                    calls += 1
                    if calls == limit:
                        os.kill(os.getpid(), signal.SIGKILL)
            sys.setprofile(at_call)
            stage.denoise(load_params())
            sys.setprofile(None)
            os.write(into, str(calls).encode())
            os._exit(0)
        os.close(into)
        told = os.read(out, 100)
        os.close(out)
        os.waitpid(child, 0)
        return int(told or 0)

    for line in sys.stdin:
        print(run(int(line)), flush=True)
"""


@pytest.mark.long
def test_killed_at_five_random_points_it_ends_with_the_same_bytes(ready: Path, tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    output, cache = ready / "data/denoised", ready / "data/cache"
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=ready,
        env={**os.environ, "PYTHONPATH": str(ready), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None

        def run(limit: int) -> int:
            process.stdin.write(f"{limit}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            while not (line := process.stdout.readline().strip()).isdigit():  # type: ignore[union-attr]
                assert line or process.poll() is None, "the script ended"
            return int(line)

        calls = run(0)
        whole = digests(output)
        assert calls > 100 and "raw.zarr/zarr.json" in whole
        chance, kills = random.Random(0), 0
        shutil.rmtree(output)
        shutil.rmtree(cache)
        while kills < 5:
            if run(chance.randint(1, calls)):
                assert digests(output) == whole  # it was done before its time came
                shutil.rmtree(output)
                if kills > 2:
                    shutil.rmtree(cache)
            else:
                kills += 1
                assert not output.exists() or digests(output) == whole  # whole, or not there
        run(0)
        process.stdin.close()
    assert digests(output) == whole
    assert not list((ready / "data").glob(".*.part"))


def test_a_bad_image_is_recorded_and_the_denoiser_does_not_see_it(
    ready: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_image(ready, "n0_flat", np.full((40, 40), 9))
    run_stage("denoise")
    table = pd.read_parquet("data/denoised/images.parquet").set_index("path")
    flat = next(path for path in table.index if "n0_flat" in path)
    assert "every pixel is 9" in table.loc[flat, "fault"] and table.loc[flat, "row"] == -1
    assert (
        "1 of 6 images could not be denoised and are left out" in (said := capsys.readouterr().out)
        and "n0_flat" in said
    )
    others = table.drop(index=flat)
    assert (others["fault"] == "").all() and sorted(others["row"]) == [0, 1, 2, 3, 4]
    assert set(others["split"]) == {"train", "validation"}
    run_stage("train_denoiser")
    assert Path("data/models/denoiser/model.safetensors").is_file()


def test_features_that_are_no_numbers_are_refused_by_image(ready: Path) -> None:
    from safetensors.numpy import load_file, save_file

    from stages.backbone.networks.load import digest_of

    weights, text = Path("data/backbone/model.safetensors"), Path("data/backbone/model.json")
    arrays, content = load_file(weights), json.loads(text.read_text())
    arrays["standardise.mean"][3] = np.nan
    content["info"]["digest"] = digest_of(arrays, content["info"]["architecture"])
    save_file(arrays, weights)
    text.write_text(json.dumps(content))
    sha = pd.read_parquet("data/raw/manifest.parquet")["sha256"][0]
    with pytest.raises(UserError, match=rf"image {sha[:12]}: 36 of 36 tokens are NaN, infinite or beyond 65,504"):
        run_stage("features")
    with pytest.raises(UserError, match=r"none of the training images could be denoised; .* tokens are NaN"):
        run_stage("denoise")


def test_without_one_good_training_image_it_stops_and_says_why(ready: Path) -> None:
    for path in Path("data/raw/images").rglob("*.png"):
        Image.fromarray(np.full((40, 40), 7, np.uint8)).save(path)
    with pytest.raises(
        UserError, match=r"none of the training images could be denoised; the first: image .* pixel is 7"
    ):
        run_stage("denoise")
    assert not Path("data/denoised").exists()


@pytest.mark.parametrize("shared", [False, True])
def test_a_new_image_costs_one_item(ready: Path, shared: bool) -> None:
    change_params(ready, {"denoise": {"shared_artifact": shared}})
    run_stage("denoise")
    assert counts() == {"cached": 0, "computed": 5}
    before = StoredRows(Path("data/denoised/clean.zarr"))[:]
    add_image(ready, "n0_more", noise(77))
    run_stage("denoise")
    assert counts() == {"cached": 5, "computed": 1}
    table = pd.read_parquet("data/denoised/images.parquet")
    after = StoredRows(Path("data/denoised/clean.zarr"))[
        table.loc[~table["path"].str.contains("more"), "row"].to_numpy()
    ]
    assert (after == before).all() != shared  # the shared artifact moves with every image


def test_a_shared_artifact_makes_artifacts_alike(ready: Path) -> None:
    def spread() -> float:
        run_stage("denoise")
        return float(StoredRows(Path("data/denoised/artifact.zarr"))[:].astype(float).std(0).mean())

    alone = spread()
    change_params(ready, {"denoise": {"shared_artifact": True, "artifact_ridge": 50.0}})
    assert spread() < 0.5 * alone
    raw, clean, artifact, residual = (
        StoredRows(Path(f"data/denoised/{name}.zarr"))[:].astype(float)
        for name in ("raw", "clean", "artifact", "residual")
    )
    assert np.allclose(np.linalg.norm(raw - clean - artifact, axis=-1), residual, rtol=0.02, atol=0.02)


@pytest.mark.long
def test_the_other_solver_runs_as_a_stage(ready: Path) -> None:
    run_stage("denoise")
    exact = StoredRows(Path("data/denoised/clean.zarr"))[:]
    change_params(ready, {"denoise": {"solver": "neural_field", "neural_field": {"steps": 20}}})
    run_stage("denoise")
    assert counts()["computed"] == 5
    assert (StoredRows(Path("data/denoised/clean.zarr"))[:] != exact).any()


def test_probe_and_distillation(ready: Path) -> None:
    for name in ("features", "denoise", "train_denoiser", "clean_features", "probe"):
        run_stage(name)
    found = json.loads(Path("data/probe/probe.json").read_text())
    assert found["images"] == {"left_out": 0, "train": 4, "validation": 1}
    assert set(found["positional_leakage"]) == {"raw", "mean_artifact", "stage_1", "denoiser"}
    assert set(found["error_to_stage_1"]) == {"raw", "mean_artifact", "denoiser"}
    nearest = found["nearest_neighbour"]["tile"]
    assert nearest["difference"]["value"] == pytest.approx(nearest["clean"]["value"] - nearest["raw"]["value"])
    assert found["labelled"]["tile"]["linear"]["reason"] == "the images of a class are all of one group"
    assert Image.open("data/probe/denoising.png").width > 600
    by_block = StoredRows(Path("data/features/clean/tokens.zarr"))[:]
    change_params(ready, {"distill": {"epochs": 1}})
    run_stage("train_denoiser")
    run_stage("clean_features")
    by_backbone = StoredRows(Path("data/features/clean/tokens.zarr"))[:]
    assert by_backbone.shape == by_block.shape and (by_backbone != by_block).any()
    change_params(ready, {"distill": {"epochs": 0}})
    run_stage("train_denoiser")
    assert not Path("data/models/denoiser/distilled").exists()
