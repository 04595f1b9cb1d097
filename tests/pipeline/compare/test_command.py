"""The command `burnish diff`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.compare.command import Options, run_diff
from stages.types import UserError
from tests.pipeline.compare import toy
from tests.pipeline.compare.toy import git

QUICK = 100


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A first run, a better one, and a worse one that is not committed."""
    table = toy.manifest(60, 60)
    project = toy.project_of(
        tmp_path_factory.mktemp("command") / "project",
        toy.run(1.0, 0, table, pictures=True),
        toy.run(2.5, 1, table, pictures=True, params={"seed": 0, "data": {"source": "folder"}, "knn": {"k": 5}}),
    )
    toy.write_run(project, toy.run(0.2, 2, table))
    return project


def verdict(capsys: pytest.CaptureFixture[str], project: Path, *revisions: str) -> tuple[str, str, str]:
    """Names of A and B, and the verdict on the AUROC."""
    assert run_diff(project, *revisions, options=Options(json=True, resamples=QUICK)) == 0
    found = json.loads(capsys.readouterr().out)
    row = next(row for row in found["rows"] if (row["detector"], row["metric"]) == ("knn", "image_auroc"))
    return found["a"]["name"], found["b"]["name"], row["verdict"]


def test_which_sides(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(capsys, project) == ("HEAD", "workspace", "worse")
    assert verdict(capsys, project, "HEAD~1") == ("HEAD~1", "workspace", "worse")
    assert verdict(capsys, project, "HEAD~1", "HEAD") == ("HEAD~1", "HEAD", "better")
    assert verdict(capsys, project, "workspace", "HEAD") == ("workspace", "HEAD", "better")


def test_outputs(project: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "diff.html"
    assert run_diff(project, "HEAD~1", "HEAD", Options(html=page, resamples=QUICK, limit=2)) == 0
    out = capsys.readouterr()
    assert "better" in out.out and "knn.k: 1 -> 5" in out.out
    assert str(page) in out.err
    assert page.read_text().count("data:image/jpeg") == 2  # read through DVC, from a commit
    assert run_diff(project, "HEAD~1", "HEAD", Options(markdown=True, resamples=QUICK)) == 0
    assert capsys.readouterr().out.startswith("### burnish diff: `HEAD~1 (")
    with pytest.raises(UserError, match="choose one"):
        run_diff(project, options=Options(markdown=True, json=True))
    with pytest.raises(UserError, match="cannot be written"):
        run_diff(project, options=Options(html=tmp_path / "none" / "x.html", resamples=QUICK))


def test_a_dirty_tree_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_diff(project, options=Options(resamples=QUICK))
    out = capsys.readouterr().out
    assert "+ changes)" in out
    assert "B has uncommitted changes: data/metrics/metrics.json, params.yaml" in out
    assert "B: parameters in params.yaml changed since the stages ran: " in out


def test_gate(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = Options(gate="image_auroc>=-0.005,escape_rate<=+0.01", resamples=QUICK)
    assert run_diff(project, "HEAD~1", "HEAD", held) == 0
    assert "gate: passed, no rule is violated" in capsys.readouterr().out
    assert run_diff(project, "HEAD", None, held) == 3
    out = capsys.readouterr()
    assert "burnish: gate: tile/knn:image_auroc changed by -0." in out.err
    assert "worse" in out.out
    assert run_diff(project, "HEAD", None, Options(gate=held.gate, json=True, resamples=QUICK)) == 3
    assert len(json.loads(capsys.readouterr().out)["gate"]["breaches"]) == 2


def test_a_gate_that_cannot_be_evaluated(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(project, tmp_path / "copy"))
    shutil.rmtree(copy / ".dvc/cache")
    with pytest.raises(
        UserError, match="cannot be evaluated: tile/knn:image_auroc: no interval: predictions of A: data/"
    ):
        run_diff(copy, "HEAD~1", None, Options(gate="image_auroc>=0", resamples=QUICK))
    assert "no interval" in capsys.readouterr().out  # the comparison is printed first


def test_names(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_diff(project, options=Options(detectors=("pca",), categories=("tile",), resamples=QUICK)) == 0
    assert "knn" not in capsys.readouterr().out.partition("parameters")[0].partition("figure")[2]
    with pytest.raises(UserError, match="--detector ear: neither side has it; available: knn, pca"):
        run_diff(project, options=Options(detectors=("ear",), resamples=QUICK))


COMMAND = """
import sys
from pipeline.cli.app import app

try:
    app(["diff", *sys.argv[1:]])
except SystemExit as end:
    code = end.code
heavy = {"torch", "prefect", "matplotlib", "scipy.stats", "sklearn"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


def test_options_and_imports(project: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", COMMAND, "HEAD~1", "HEAD", "-d", "knn", "-c", "tile", "--common", "--limit", "0"]
    more = ["--gate", "image_auroc<=0", "--resamples", "100", "--confidence", "0.9", "--html", "x.html"]
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [*command, *more],
        cwd=project,
        env={**environment, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    (project / "x.html").unlink()
    assert "intervals: 90%" in done.stdout


def test_dvc_goes_on_working(project: Path, environment: dict[str, str]) -> None:
    """`dvc metrics diff`, `dvc params diff` and `dvc plots diff` on the same files."""

    def dvc(*arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    metrics = json.loads(dvc("metrics", "diff", "HEAD~1", "HEAD", "--json"))
    change = metrics["data/metrics/metrics.json"]["tile.knn.image_auroc"]
    assert change["diff"] == pytest.approx(change["new"] - change["old"]) and change["diff"] > 0
    params = json.loads(dvc("params", "diff", "HEAD~1", "HEAD", "--json"))
    assert params["params.yaml"]["knn.k"] == {"old": 1, "new": 5, "diff": 4}
    plots = json.loads(dvc("plots", "diff", "HEAD~1", "HEAD", "--json", "--out", str(project / ".dvc/tmp/plots")))
    assert plots["data"]
    assert git(project, "rev-parse", "--abbrev-ref", "HEAD") == "main"
