"""Every stage on eight tiny images, twice: by `burnish run` and by plain `dvc repro`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from stages.detectors.registry import CONFIGS
from tests.conftest import change_params, digests, make_project

DETECTORS = ("ear", "pca")
"""One that trains a network and reads the backbone, one that reads pixels alone."""


def command(project: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=project, env=environment, capture_output=True, text=True, check=False)


def commit(project: Path, environment: dict[str, str]) -> None:
    """As the README says, `git add params.yaml dvc.lock data/metrics && git commit`."""
    for arguments in (
        ("git", "add", "params.yaml", "dvc.lock", "data/metrics"),
        ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "run"),
    ):
        assert command(project, environment, *arguments).returncode == 0


def predictions_agree(project: Path, environment: dict[str, str], out: Path, names: Sequence[str]) -> None:
    """Of test images each detector says by `burnish predict` what stage `infer` said, to the byte."""
    chosen = [word for name in names for word in ("--detector", name)]
    arguments = ("predict", "data/raw/images", *chosen, "--out", str(out), "--json")
    result = command(project, environment, sys.executable, "-m", "pipeline", *arguments)
    assert result.returncode == 0, result.stderr
    found = {row["sha256"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert len(found) == 8
    for name in names:
        rows = pd.read_parquet(project / f"data/predictions/tile-{name}.parquet")
        for row in rows[rows["split"] == "test"].to_dict("records"):
            judged = found[row["sha256"]]
            assert judged[f"score_{name}"] == row["image_score"], name
            if name == "fused":
                assert judged["verdict"] == ("defect" if row["decision"] else "good")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> tuple[Path, Path, str]:
    """Two projects, run side by side: by `burnish run --jobs 2` and by `dvc repro`; and what the first printed."""
    root = tmp_path_factory.mktemp("runs")
    by_flow, by_dvc = make_project(root / "flow"), make_project(root / "dvc")
    for project in (by_flow, by_dvc):
        change_params(project, {"detectors": list(DETECTORS), "fused": {"detectors": ["ear", "pca"]}})
    plain = subprocess.Popen(
        ["dvc", "repro"], cwd=by_dvc, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        flow = command(by_flow, environment, sys.executable, "-m", "pipeline", "run", "--jobs", "2")
        said, _ = plain.communicate()
    finally:
        plain.kill()
    assert flow.returncode == 0, flow.stdout + flow.stderr
    assert plain.returncode == 0, said
    return by_flow, by_dvc, flow.stdout


def test_same_bytes_and_same_lock(runs: tuple[Path, Path, str]) -> None:
    by_flow, by_dvc, _ = runs
    first, second = digests(by_flow), digests(by_dvc)
    assert {name for name in first if first[name] != second.get(name)} == set()
    assert set(first) == set(second)
    assert (by_flow / "dvc.lock").read_bytes() == (by_dvc / "dvc.lock").read_bytes()


def test_metrics_and_predictions(runs: tuple[Path, Path, str]) -> None:
    project = runs[0]
    metrics = json.loads((project / "data/metrics/metrics.json").read_text())
    assert set(metrics["tile"]) == {*DETECTORS, "fused"}
    for name, values in metrics["tile"].items():
        assert (values["n_test_normal"], values["n_test_defect"]) == (1, 2), name
        assert 0 <= values["image_auroc"] <= 1
        assert values["pixel_auroc"] is not None
        table = pd.read_parquet(project / f"data/predictions/tile-{name}.parquet")
        assert {"path", "sha256", "label", "image_score", "threshold", "decision"} <= set(table.columns)
        test = table[table["split"] == "test"]
        assert len(test) == 3
        expected = (test["image_score"] > values["threshold"]).astype(int)
        assert test["decision"].tolist() == expected.tolist()
        escaped = ((test["label"] == 1) & (test["decision"] == 0)).sum() / 2
        assert values["escape_rate"] == pytest.approx(escaped)


def test_the_table_is_printed(runs: tuple[Path, Path, str]) -> None:
    for word in (*DETECTORS, "AUROC", "data/plots", "git add"):
        assert word in runs[2]
    assert "\x1b" not in runs[2]


def test_git_is_clean_after_the_documented_commit(runs: tuple[Path, Path, str], environment: dict[str, str]) -> None:
    project = runs[0]
    commit(project, environment)
    assert command(project, environment, "git", "status", "--porcelain").stdout == ""
    assert "up to date" in command(project, environment, "dvc", "repro").stdout
    again = command(project, environment, sys.executable, "-m", "pipeline", "run")
    assert again.returncode == 0
    assert "nothing to do" in again.stdout


def test_new_images_are_judged_as_the_stages_judged_them(
    runs: tuple[Path, Path, str], environment: dict[str, str], tmp_path: Path
) -> None:
    """`burnish run` has made the bundle; of test images each detector says what stage `infer` said, to the byte."""
    project = runs[0]
    assert "bundle: data/bundle/" in runs[2]
    assert not (runs[1] / "data/bundle").exists()
    predictions_agree(project, environment, tmp_path, ("fused", *DETECTORS))


def test_one_detectors_parameter_makes_only_its_stages_stale(
    runs: tuple[Path, Path, str], environment: dict[str, str], tmp_path: Path
) -> None:
    project = tmp_path / "copy"
    shutil.copytree(runs[1], project, symlinks=True)
    change_params(project, {"pca": {"components": 2}})
    status = json.loads(command(project, environment, "dvc", "status", "--json").stdout)
    assert set(status) == {"train@tile-pca", "infer@tile-pca", "report"}  # the report shows all parameters


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("burnish run --force score", "1 of them run now"),
        ("burnish run train@tile-pca", "nothing to do"),
        ("burnish stage score", "score: tile pca"),
        ("burnish graph", "flowchart LR"),
        ("dvc metrics show", "image_auroc"),
        ("dvc metrics diff", ""),
        ("dvc plots show", "index.html"),
        ("dvc exp run -S pca.components=2 -S ear.hint=none --quiet", ""),
        ("dvc params diff", "ear.hint"),
        ("burnish run --jobs 2", "nothing to do"),
    ],
)
def test_the_commands_of_the_readme(committed: Path, environment: dict[str, str], arguments: str, said: str) -> None:
    """In order, in one project."""
    result = command(committed, environment, *arguments.split())
    assert result.returncode == 0, result.stdout + result.stderr
    assert said in result.stdout


@pytest.fixture(scope="module")
def committed(
    runs: tuple[Path, Path, str], environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A copy of the run project with its result committed."""
    project = tmp_path_factory.mktemp("committed") / "copy"
    shutil.copytree(runs[1], project, symlinks=True)
    commit(project, environment)
    return project


@pytest.mark.long
def test_with_a_frozen_backbone_a_new_image_costs_itself(
    runs: tuple[Path, Path, str], environment: dict[str, str], tmp_path: Path
) -> None:
    project = tmp_path / "copy"
    shutil.copytree(runs[1], project, symlinks=True)
    graph = project / "dvc.yaml"
    graph.write_text(graph.read_text().replace("  pretrain:\n", "  pretrain:\n    frozen: true\n"))
    shutil.copy(project / "data/own/normal/n0.png", project / "data/own/normal/n1_more.png")
    with (project / "data/own/normal/n1_more.png").open("ab") as file:
        file.write(b"other bytes, same picture")
    denoise = {"denoise": {"images": 20}}  # all of them, as a choice of few may leave the new one out
    change_params(project, denoise)
    for _ in range(2):
        result = command(project, environment, "burnish", "run", "features", "denoise")
        assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads((project / "data/logs/features.counts.json").read_text()) == {"cached": 8, "computed": 1}
    assert json.loads((project / "data/logs/denoise.counts.json").read_text()) == {"cached": 4, "computed": 2}


@pytest.mark.long
def test_all_detectors_run_and_predict_as_the_stages(
    runs: tuple[Path, Path, str], environment: dict[str, str], tmp_path: Path
) -> None:
    """The detectors that the runs above leave out, on the same features."""
    project = Path(shutil.copytree(runs[1], tmp_path / "project", symlinks=True))
    change_params(
        project,
        {
            "detectors": ["context", "intra", "knn", "subspace", "padim", "gabor"],
            "fused": {"detectors": ["intra", "padim"]},
        },
    )
    done = command(project, environment, sys.executable, "-m", "pipeline", "run", "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((project / "data/metrics/metrics.json").read_text())
    assert set(metrics["tile"]) == {"context", "intra", "knn", "subspace", "padim", "gabor", "fused"}
    assert {*DETECTORS, "context", "intra", "knn", "subspace", "padim", "gabor"} == set(CONFIGS)
    predictions_agree(
        project, environment, tmp_path / "judged", ("fused", "context", "intra", "knn", "subspace", "padim", "gabor")
    )
