"""The graph read from DVC, and the order of dvc.lock."""

from __future__ import annotations

import os
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.orchestration.graph import StageGraph, mermaid, read_graph
from pipeline.orchestration.lockfile import BASELINE, order_entries, remember_entries, wanted_order
from pipeline.project.root import command_environment, find_root, log_path
from stages.types import UserError
from tests.pipeline import toy_project as toy


@pytest.fixture
def project(reference: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The complete toy project as working directory, to be read only."""
    monkeypatch.chdir(reference)
    return reference


def test_order_and_parents_are_dvcs(project: Path) -> None:
    graph = read_graph(project)
    assert list(graph.order) == toy.ORDER  # the order in which `dvc repro` ran them, not that of dvc.yaml
    assert graph.parents["train@mono-y"] == ("left", "right")
    assert graph.parents["score"] == ("train@mono-x", "train@mono-y")  # it reads the folder that holds their outputs
    assert graph.stale == frozenset()
    assert graph.may_run() == ()


def test_targets_and_matrix_names(project: Path) -> None:
    graph = read_graph(project, ["train"], ["train"], check=False)
    assert list(graph.order) == toy.ORDER[:-1]
    assert graph.may_run() == ("train@mono-x", "train@mono-y")


def test_staleness_and_what_lies_downstream(complete: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(complete)
    (complete / "out/left").write_text("changed by hand")
    graph = read_graph(complete)
    assert graph.stale == {"left", "train@mono-x", "train@mono-y"}
    assert graph.may_run() == ("left", "train@mono-x", "train@mono-y", "score")
    toy.hold(complete, "out/right", os.getpid())
    assert "right" in read_graph(complete).stale  # another process is at it, so ask DVC when its turn comes


@pytest.mark.parametrize(
    ("targets", "force", "says"),
    [
        (["nothing"], [], "no stage .nothing. in dvc.yaml; there are .*left, .*train"),
        ([], ["train@mono-z"], "no stage .train@mono-z.*; there are train@mono-x, train@mono-y"),
        (["left"], ["score"], "score.*add it to the targets"),
    ],
)
def test_unknown_names(project: Path, targets: list[str], force: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        read_graph(project, targets, force)
    assert "\n" not in str(caught.value)


def test_faults_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no dvc\.yaml in"):
        find_root(tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: [}")
    (tmp_path / "deep" / "down").mkdir(parents=True)
    assert find_root(tmp_path / "deep" / "down") == tmp_path.resolve()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="dvc init"):
        read_graph(tmp_path)


def test_a_broken_dvc_yaml_is_one_line(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fresh)
    (fresh / "dvc.yaml").write_text("stages: {a: {cmd: [}")
    with pytest.raises(UserError, match=r"dvc\.yaml") as caught:
        read_graph(fresh)
    assert "\n" not in str(caught.value)


EDGES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda e: e[0] < e[1]), unique=True)


@given(EDGES, st.sets(st.integers(0, 7)), st.sets(st.integers(0, 7)))
def test_closure_against_networkx(edges: list[tuple[int, int]], stale: set[int], forced: set[int]) -> None:
    slow = nx.DiGraph(edges)
    slow.add_nodes_from(range(8))
    graph = StageGraph(
        order=tuple(map(str, range(8))),
        parents={str(n): tuple(map(str, slow.predecessors(n))) for n in range(8)},
        stale=frozenset(map(str, stale)),
        forced=frozenset(map(str, forced)),
    )
    reached = stale | forced | {d for n in stale | forced for d in nx.descendants(slow, n)}
    assert graph.may_run() == tuple(map(str, sorted(reached)))
    assert graph.descendants("3") == frozenset(map(str, nx.descendants(slow, 3)))


def test_mermaid(project: Path) -> None:
    assert mermaid(read_graph(project, check=False)).splitlines() == [
        "flowchart LR",
        '    s_download["download"]',
        '    s_left["left"]',
        '    s_right["right"]',
        '    s_train["train x 2"]',
        '    s_score["score"]',
        "    s_download --> s_left",
        "    s_download --> s_right",
        "    s_left --> s_train",
        "    s_right --> s_train",
        "    s_train --> s_score",
    ]


NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(NAMES, NAMES, NAMES)
def test_wanted_order(names: list[str], before: list[str], plan: list[str]) -> None:
    wanted = wanted_order(names, before, plan)
    assert sorted(wanted) == sorted(names)
    old = [name for name in names if name in before]
    assert wanted[: len(old)] == old  # what was there keeps its place
    new = [name for name in wanted[len(old) :] if name in plan]
    assert new == [name for name in plan if name in new]  # what came in follows the plan


def test_a_run_in_two_halves_orders_like_one(complete: Path) -> None:
    """`right` ended, then the run was killed; the next one adds the others: as if it had been one run."""
    import yaml

    lock = complete / "dvc.lock"
    wanted = lock.read_bytes()
    whole = yaml.safe_load(wanted)

    def hold_only(*names: str) -> None:
        stages = {name: whole["stages"][name] for name in names}
        lock.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False))

    hold_only("download")
    remember_entries(complete)
    hold_only("download", "right")
    remember_entries(complete)  # the second run: the account stays the first one's
    hold_only("download", "right", "left", "train@mono-y", "train@mono-x", "score")
    assert order_entries(complete, toy.ORDER, finished=True)
    assert lock.read_bytes() == wanted  # and DVC's own formatting
    assert not (complete / BASELINE).exists()
    assert not order_entries(complete, toy.ORDER, finished=True)


def test_log_names_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert log_path(Path("p"), "train@mono-ear") == Path("p/data/logs/train@mono-ear.log")
    assert log_path(Path("p"), "sub/dvc.yaml:a {b}*") == Path("p/data/logs/sub_dvc.yaml_a__b__.log")
    monkeypatch.setenv("PATH", "/somewhere")
    monkeypatch.setattr("sys.executable", "/venv/bin/python")
    assert command_environment()["PATH"] == os.pathsep.join(["/venv/bin", "/somewhere"])
