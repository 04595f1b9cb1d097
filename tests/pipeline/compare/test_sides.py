"""Reading revisions through git and DVC."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from dvc.repo import Repo

from pipeline.compare.read_side import read_images, read_side
from stages.types import UserError
from tests.pipeline.compare import toy
from tests.pipeline.compare.toy import git


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits of runs, after one of a README; do not change it."""
    project = toy.start(tmp_path_factory.mktemp("compare") / "project")
    (project / "README.md").write_text("hello")
    git(project, "add", "README.md")
    git(project, "commit", "--quiet", "-m", "before the pipeline")
    for number, run in enumerate((toy.run(0.5, 0, pictures=True), toy.run(2.0, 1, pictures=True, params=PARAMS))):
        toy.write_run(project, run)
        toy.commit(project, f"run {number}")
    return project


PARAMS = {"seed": 0, "data": {"source": "folder"}, "knn": {"k": 5}}


@pytest.fixture
def project(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "project", symlinks=True))


def state(project: Path) -> dict[str, object]:
    """All that reading a side must leave unchanged."""
    files = [path for path in project.rglob("*") if path.is_file() and ".git" not in path.parts]
    kept = {str(path): path.read_bytes() for path in files if "tmp" not in path.parts}
    return {**kept, "status": git(project, "status", "--porcelain"), "head": git(project, "rev-parse", "HEAD")}


def test_a_revision_and_the_workspace(project: Path) -> None:
    before = state(project)
    new, old, here = (read_side(project, name) for name in ("HEAD", "main~1", None))
    assert state(project) == before
    head = git(project, "rev-parse", "HEAD")
    assert (new.commit, new.name, new.title) == (head, "HEAD", f"HEAD ({head[:7]})")
    assert new.notes == old.notes == here.notes == () and not new.problems
    assert (old.params["knn"], new.params["knn"]) == ({"k": 1}, {"k": 5})
    for side, run in ((old, toy.run(0.5, 0)), (new, toy.run(2.0, 1)), (here, toy.run(2.0, 1))):
        assert side.metrics == json.loads(json.dumps(toy.figures(run)))
        expected = toy.tables(run)["tile", "knn"].drop(columns="mask_path").reset_index(drop=True)
        pd.testing.assert_frame_equal(side.predictions["tile", "knn"], expected, check_dtype=False)
        assert side.manifest is not None and len(side.manifest) == len(run.manifest)
    assert (here.name, here.commit, here.changed_files) == ("workspace", head, ())
    assert here.title == f"workspace ({head[:7]})"


def test_a_dirty_workspace(project: Path) -> None:
    (project / "params.yaml").write_text("seed: 0\ndata: {source: folder}\nknn: {k: 9}\n")
    (project / "data/metrics/metrics.json").write_text(json.dumps(toy.figures(toy.run(2.0, 3))))
    (project / "data/predictions/tile-pca.parquet").unlink()
    git(project, "mv", "README.md", "READ.md")
    here = read_side(project, None)
    assert here.changed_files == ("READ.md", "data/metrics/metrics.json", "params.yaml")
    assert here.title.endswith("+ changes)")
    assert "knn.k (5, now 9)" in here.notes[0]
    assert here.notes[1].startswith(
        "not the outputs that dvc.lock records: data/metrics/metrics.json and data/predictions; "
    )
    assert read_side(project, "HEAD").notes == ()


def test_unknown_revision(project: Path) -> None:
    with pytest.raises(UserError, match="no revision 'nowhere' in git"):
        read_side(project, "nowhere")
    with pytest.raises(UserError, match="no revision '--help'"):
        read_side(project, "--help")


def test_outside_git_and_before_the_first_commit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no git repository at or above"):
        read_side(tmp_path, "HEAD")
    git(tmp_path, "init", "--quiet")
    with pytest.raises(UserError, match="has no commit"):
        read_side(tmp_path, "HEAD")


def test_shallow_clone(project: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--depth", "1", project.as_uri(), "clone")
    with pytest.raises(UserError, match="shallow clone: run `git fetch --unshallow`"):
        read_side(tmp_path / "clone", "HEAD~1")


def test_a_revision_without_the_pipeline(project: Path) -> None:
    with pytest.raises(
        UserError, match=r"nothing to compare: there is no data/metrics/metrics\.json; the commit has no dvc\.yaml"
    ):
        read_side(project, "HEAD~2")


def test_metrics_without_a_lock(project: Path) -> None:
    git(project, "rm", "--quiet", "--cached", "dvc.lock")
    git(project, "commit", "--quiet", "-m", "no lock")
    side = read_side(project, "HEAD")
    assert side.metrics["tile"] and not side.predictions
    assert side.problems["predictions"].startswith("the commit has no dvc.lock")


def test_predictions_collected_as_garbage(project: Path) -> None:
    shutil.rmtree(project / ".dvc/cache")
    side = read_side(project, "HEAD~1")
    assert not side.predictions and side.manifest is None and side.metrics["tile"]
    assert side.problems["predictions"] == "data/predictions is not in DVC's cache, and there is no default remote"
    assert read_images(side, ["images/tile-test-0-00000.png"]) == {}
    assert read_side(project, None).predictions  # the workspace has its own files


def test_one_file_collected_as_garbage(project: Path) -> None:
    with Repo(str(project)) as repo, repo.switch(git(project, "rev-parse", "HEAD~1")):
        digest = repo.dvcfs.info("data/predictions/tile-knn.parquet")["md5"]
        Path(repo.cache.local.oid_to_path(digest)).unlink()
    why = read_side(project, "HEAD~1").problems["predictions"]
    assert why == "data/predictions/tile-knn.parquet is not in DVC's cache, and there is no default remote"


def test_fetched_from_the_remote(project: Path, tmp_path: Path) -> None:
    # the commits do not know this remote and this folder of the cache
    shutil.move(project / ".dvc/cache", tmp_path / "cache")
    (project / ".dvc/config").write_text(
        f"[core]\n    remote = store\n['remote \"store\"']\n    url = {tmp_path / 'store'}\n"
        f"[cache]\n    dir = {tmp_path / 'cache'}\n"
    )
    assert read_side(project, "HEAD~1").problems == {}
    (tmp_path / "store").mkdir()
    shutil.move(tmp_path / "cache/files", tmp_path / "store/files")  # as `dvc push` would leave it
    side = read_side(project, "HEAD~1")
    assert set(side.predictions) == {("tile", "knn"), ("tile", "pca")} and side.manifest is not None
    assert side.notes == ("read 3 files from DVC's remote 'store'",)
    name = "images/tile-test-0-00000.png"
    assert read_images(side, [name, "images/none.png"]) == {name: toy.picture(name)}
    shutil.rmtree(tmp_path / "store")
    assert "in DVC's cache nor in its remote 'store'" in read_side(project, "HEAD~1").problems["predictions"]


def test_in_a_worktree(project: Path, tmp_path: Path) -> None:
    git(project, "worktree", "add", "--quiet", str(tmp_path / "tree"), "HEAD")
    tree = tmp_path / "tree"
    (tree / ".dvc/config.local").write_text(f"[cache]\n    dir = {project / '.dvc/cache'}\n")
    for name in ("HEAD", "HEAD~1"):
        there, here = read_side(tree, name), read_side(project, name)
        pd.testing.assert_frame_equal(there.predictions["tile", "knn"], here.predictions["tile", "knn"])
        assert there.problems == {}
    bare = read_side(tree, None)  # nothing was checked out there
    assert bare.metrics["tile"] and "there is no data/predictions here" in bare.problems["predictions"]


def test_a_project_below_the_repository(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.txt").write_text("a")
    project = tmp_path / "below"
    toy.start(project)
    shutil.rmtree(project / ".git")
    toy.write_run(project, toy.run())
    toy.commit(project, "run")
    side = read_side(project, "HEAD")
    assert set(side.predictions) == {("tile", "knn"), ("tile", "pca")}
    assert side.problems == {} and side.metrics["tile"]


def test_older_layouts(project: Path) -> None:
    table = pd.read_parquet(project / "data/predictions/tile-knn.parquet")
    table.drop(columns=["sha256"]).to_parquet(project / "data/predictions/tile-knn.parquet")
    (project / "data/metrics/metrics.json").write_text('{"knn": {"auroc": 0.9}, "tile": {"pca": {"image_auroc": 0.8}}}')
    here = read_side(project, None)
    assert here.predictions == {}
    assert here.problems["predictions"] == "tile-knn.parquet is of another layout: no column sha256"
    assert here.metrics == {"tile": {"pca": {"image_auroc": 0.8}}}
    (project / "data/metrics/metrics.json").write_text('{"auroc": 0.9}')
    with pytest.raises(UserError, match="holds no metrics by category and detector"):
        read_side(project, None)


def test_damaged_files(project: Path) -> None:
    (project / "data/predictions/tile-knn.parquet").write_bytes(b"PAR1 nothing")
    assert "a table is damaged" in read_side(project, None).problems["predictions"]
    (project / "params.yaml").write_text("a: [")
    with pytest.raises(UserError, match=r"params.yaml of workspace is not valid YAML"):
        read_side(project, None)
