"""Whole runs of retraining on a toy project, each as the command that a user types."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from PIL import Image

from pipeline.bundle import champion
from pipeline.project import paths
from pipeline.retrain import records
from pipeline.retrain.promotion import exclusive_retraining
from tests.conftest import change_params
from tests.pipeline.retrain.conftest import Retrain, drop
from tests.pipeline.retrain.toy import git, picture

pytestmark = pytest.mark.long


def last(project: Path) -> dict[str, Any]:
    return records.history(project)[-1]


def untouched(project: Path) -> tuple[str, str, str]:
    """What a developer would notice: the commit, the branch, and changed files."""
    return (
        git(project, "rev-parse", "HEAD"),
        git(project, "branch", "--show-current"),
        git(project, "status", "--short"),
    )


def test_the_commit_as_it_is_becomes_the_first_champion(served: Path) -> None:
    assert last(served)["result"] == "promoted"
    assert last(served)["reason"] == "the first champion"
    folder = champion.current_bundle(served)
    assert folder is not None and folder.name == "v0.1.0"
    commit = champion.commit_of(folder)
    assert git(served, "rev-parse", "burnish@v0.1.0^{commit}") == commit
    assert git(served, "rev-parse", "burnish#champion#1^{commit}") == commit
    assert git(served, "rev-parse", f"{commit}^") == git(served, "rev-parse", "main")
    tracked = yaml.safe_load(git(served, "show", f"{commit}:data/own.dvc"))
    assert tracked["outs"][0]["nfiles"] == 84
    assert untouched(served)[1:] == ("main", "")


def test_nothing_new_ends_the_run(project: Path, retrain: Retrain) -> None:
    before = untouched(project)
    done = retrain(project, PREFECT_API_URL="http://127.0.0.1:1/api")  # no server is needed for that
    assert done.returncode == 0, done.stderr
    assert "the inbox is empty" in done.stdout
    assert last(project)["result"] == "nothing new"
    assert not (project / paths.WORKTREE).exists()
    assert untouched(project) == before
    (project / "data/inbox").mkdir(exist_ok=True)
    (project / "data/inbox/a.zip").write_bytes(b"")
    assert "nothing new: not images, ignored: a.zip;" in retrain(project).stdout


def test_good_images_are_promoted_bad_images_held_and_old_images_known(project: Path, retrain: Retrain) -> None:
    """Three results of runs, one after the other."""
    before = untouched(project)
    promoted = _promoted(project, retrain)
    _held(project, retrain, promoted)
    _known(project, retrain)
    assert untouched(project) == before
    assert "v0.2.0" in retrain(project, "retrain", "--history").stdout


def _promoted(project: Path, retrain: Retrain) -> dict[str, Any]:
    drop(project, 8)
    picture(project / "data/inbox/defect/spot/odd.png", 120, 78)
    mask = picture(project / "data/inbox/masks/spot/odd.png", 0, 0)
    Image.new("L", (16, 16)).save(mask)
    picture(
        project / "data/own/normal/of the developer.png", 100, 77
    )  # the pool is that of the champion, not this folder
    (project / "data/own/normal/of the developer.png").unlink()
    done = retrain(project)
    assert done.returncode == 0, done.stdout + done.stderr
    run = last(project)
    assert (run["result"], run["new"], run["champion"]) == ("promoted", 10, "v0.2.0"), run
    assert [note for note in run["notes"] if "odd.png" in note and note.startswith("stage download warns: ")]
    assert "stage download warns: " in done.stdout
    assert champion.current_version(project) == "v0.2.0"
    assert (
        git(project, "rev-parse", run["branch"])
        == run["commit"]
        == git(project, "rev-parse", "burnish@v0.2.0^{commit}")
    )
    assert git(project, "rev-parse", f"{run['commit']}^") == git(project, "rev-parse", "burnish@v0.1.0^{commit}")
    tracked = yaml.safe_load(git(project, "show", f"{run['commit']}:data/own.dvc"))
    assert tracked["outs"][0]["nfiles"] == 94
    metrics = json.loads(git(project, "show", f"{run['commit']}:data/metrics/metrics.json"))
    assert metrics == json.loads((project / paths.WORKTREE / paths.METRICS).read_text())
    assert not list((project / "data/inbox").rglob("*.png"))
    assert len(list((project / paths.RETRAIN / "taken" / run["id"]).rglob("*.png"))) == 10
    assert f"git merge {run['branch']} && dvc checkout" in done.stdout
    pages = {path.name for path in records.run_folder(project, run["id"]).iterdir()}
    assert {"diff.html", "diff.md", "run.json", "run.md", "pipeline.log"} <= pages
    assert "download" in done.stdout  # progress
    return run


def _held(project: Path, retrain: Retrain, promoted: dict[str, Any]) -> None:
    """Bright images among the good ones hide bright defects."""
    drop(project, 30, level=122, seed=7000)
    (again,) = drop(project, 1)  # it came with the promoted images
    done = retrain(project)
    assert "known already, moved to data/retrain/known/: normal/new-5000.png" in done.stdout
    assert not again.exists()
    assert done.returncode == 0, done.stdout + done.stderr
    run = last(project)
    assert run["result"] == "held", run
    assert "tile/pca:image_auroc changed by -" in run["reason"]
    assert "which violates image_auroc>=-0.01" in done.stdout
    assert champion.current_version(project) == "v0.2.0"
    assert git(project, "rev-parse", promoted["branch"]) == promoted["commit"]
    assert not list((project / "data/inbox").rglob("*.png"))
    assert len(list((project / paths.RETRAIN / "held" / run["id"]).rglob("*.png"))) == 30
    assert "challenger" in (records.run_folder(project, run["id"]) / "diff.md").read_text()


def _known(project: Path, retrain: Retrain) -> None:
    """The promoted images again are known. Images that were held would be trained on again, so they are left out."""
    drop(project, 8)
    (project / "data/inbox/normal/cut.png").write_bytes(drop(project, 1, seed=5000)[0].read_bytes()[:60])
    done = retrain(project)
    assert done.returncode == 0, done.stdout + done.stderr
    run = last(project)
    assert (run["result"], run["known"]) == ("nothing new", 8)
    assert list(run["left"]) == ["normal/cut.png"]
    assert [path.name for path in (project / "data/inbox").rglob("*.png")] == ["cut.png"]


def test_a_failure_leaves_champion_and_inbox_as_they_were(project: Path, retrain: Retrain) -> None:
    drop(project, 3)
    (project / paths.RETRAIN / "worktree").mkdir()  # a folder that is not a worktree
    params = project / "params.yaml"
    change_params(project, {"retrain": {"timeout_minutes": 0.001}})
    done = retrain(project)
    assert done.returncode == 1
    assert done.stderr.count("burnish: error:") == 1
    assert "retrain.timeout_minutes = 0.001" in done.stderr
    assert last(project)["result"] == "failed"
    assert champion.current_version(project) == "v0.1.0"
    assert len(list((project / "data/inbox").rglob("*.png"))) == 3
    git(project, "checkout", "--quiet", str(params))


def test_a_rollback_restores_an_older_champion_although_its_bundle_is_gone(project: Path, retrain: Retrain) -> None:
    done = retrain(project, "retrain", "--once", "--force")
    assert done.returncode == 0, done.stdout + done.stderr
    assert champion.current_version(project) == "v0.2.0"
    old = {path.relative_to(project): path.read_bytes() for path in _files(project, "v0.1.0")}
    for path in _files(project, "v0.1.0"):
        path.unlink()
    (champion.versions_folder(project) / "v0.1.0" / "bundle.json").unlink(missing_ok=True)
    champion.prune_versions(project, keep=1)
    assert champion.stored_versions(project) == ["v0.2.0"]
    done = retrain(project, "rollback")
    assert done.returncode == 0, done.stderr
    assert champion.current_version(project) == "v0.1.0"
    assert {path.relative_to(project): path.read_bytes() for path in _files(project, "v0.1.0")} == old
    assert last(project)["result"] == "rolled back"
    for arguments, words in (
        (("rollback",), "there is no version before v0.1.0; there are: v0.1.0, v0.2.0"),
        (("rollback", "v0.1.0"), "burnish@v0.1.0 is the champion already"),
        (("rollback", "v7"), "there is no version 'v7' of burnish"),
    ):
        refused = retrain(project, *arguments)
        assert refused.returncode == 1
        assert words in refused.stderr
    assert retrain(project, "rollback", "burnish@v0.2.0").returncode == 0
    assert champion.current_version(project) == "v0.2.0"


def _files(project: Path, version: str) -> list[Path]:
    return sorted(path for path in (champion.versions_folder(project) / version).rglob("*.safetensors"))


def test_a_clone_makes_the_bundle_of_the_champion_that_a_tag_names(project: Path, retrain: Retrain) -> None:
    import shutil

    shutil.rmtree(champion.versions_folder(project))
    done = retrain(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert champion.current_version(project) == "v0.1.0"
    assert last(project)["result"] == "nothing new"


def test_the_challenger_starts_from_the_commit_that_contains_the_other(project: Path, retrain: Retrain) -> None:
    """A commit on top of the champion's commit is used; a commit beside it is not, and a note says so."""
    (project / "notes.txt").write_text("beside")
    git(project, "add", "notes.txt")
    git(project, "commit", "--quiet", "-m", "beside")
    drop(project, 2)
    assert retrain(project).returncode == 0
    run = last(project)
    assert "Merge the champion's branch to use both" in run["notes"][0]
    assert "notes.txt" not in git(project, "ls-tree", "--name-only", run["commit"]).split()
    git(project, "merge", "--quiet", "--no-edit", run["branch"])
    drop(project, 2, seed=5100)
    done = retrain(project)
    assert done.returncode == 0, done.stdout + done.stderr
    merged = last(project)
    assert merged["notes"] == []
    assert "notes.txt" in git(project, "ls-tree", "--name-only", merged["commit"]).split()
    manifest = pd.read_parquet(project / paths.WORKTREE / paths.MANIFEST)
    assert len(manifest) == 88


def test_refusals_are_one_line(project: Path, retrain: Retrain) -> None:
    drop(project, 1)
    for changes, words in (
        ({"retrain": {"gate": "image_auroc>0"}}, "is no rule of a gate"),
        ({"retrain": {"inbox": 3}}, "retrain.inbox"),
    ):
        change_params(project, changes)
        done = retrain(project)
        assert done.returncode == 1
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        git(project, "checkout", "--quiet", "params.yaml")
    with exclusive_retraining(project):  # like a run in progress
        done = retrain(project)
    assert done.returncode == 1
    assert f"another retraining (process {os.getpid()}) is running" in done.stderr
    assert last(project)["result"] == "promoted"
    for arguments in ((), ("--once", "--every", "5m"), ("--every", "5m", "--force")):
        assert retrain(project, "retrain", *arguments).returncode == 2
    assert "write a number and s, m, h or d" in retrain(project, "retrain", "--every", "soon").stderr
