"""The stage graph read from DVC, and as a Mermaid flow chart."""

from __future__ import annotations

import os
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.orchestration.graph import StageGraph, read_graph
from pipeline.orchestration.mermaid import mermaid
from stages.types import UserError
from tests.pipeline import toy_project as toy


@pytest.fixture
def project(reference: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The complete toy project as working directory. Tests must not change it."""
    monkeypatch.chdir(reference)
    return reference


def test_order_and_parents_are_dvcs(project: Path) -> None:
    graph = read_graph(project)
    assert list(graph.order) == toy.ORDER  # the order in which `dvc repro` ran them, not that of dvc.yaml
    assert graph.parents["train@mono-y"] == ("left", "right")
    assert graph.parents["score"] == ("train@mono-x", "train@mono-y")  # its dependency is the folder of their outputs
    assert graph.stale == frozenset()
    assert graph.may_run() == ()


def test_targets_and_matrix_names(project: Path) -> None:
    graph = read_graph(project, ["train"], ["train"], check=False)
    assert list(graph.order) == toy.ORDER[:-1]
    assert graph.may_run() == ("train@mono-x", "train@mono-y")


def test_a_changed_output_makes_its_stage_and_children_stale(complete: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(complete)
    (complete / "out/left").write_text("changed by hand")
    graph = read_graph(complete)
    assert graph.stale == {"left", "train@mono-x", "train@mono-y"}
    assert graph.may_run() == ("left", "train@mono-x", "train@mono-y", "score")
    toy.hold(complete, "out/right", os.getpid())
    assert "right" in read_graph(complete).stale  # another process holds it, so DVC is asked again later


@pytest.mark.parametrize(
    ("targets", "force", "message"),
    [
        (["nothing"], [], "no stage .nothing. in dvc.yaml; there are .*left, .*train"),
        ([], ["train@mono-z"], "no stage .train@mono-z.*; there are train@mono-x, train@mono-y"),
        (["left"], ["score"], "score.*add it to the targets"),
    ],
)
def test_unknown_names(project: Path, targets: list[str], force: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_graph(project, targets, force)
    assert "\n" not in str(caught.value)


def test_a_folder_without_dvc_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="dvc init"):
        read_graph(tmp_path)


def test_an_invalid_dvc_yaml_is_an_error_of_one_line(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(fresh)
    (fresh / "dvc.yaml").write_text("stages: {a: {cmd: [}")
    with pytest.raises(UserError, match=r"dvc\.yaml") as caught:
        read_graph(fresh)
    assert "\n" not in str(caught.value)


EDGES = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda e: e[0] < e[1]), unique=True)


@given(EDGES, st.sets(st.integers(0, 7)), st.sets(st.integers(0, 7)))
def test_descendants_against_networkx(edges: list[tuple[int, int]], stale: set[int], forced: set[int]) -> None:
    reference = nx.DiGraph(edges)
    reference.add_nodes_from(range(8))
    graph = StageGraph(
        order=tuple(map(str, range(8))),
        parents={str(n): tuple(map(str, reference.predecessors(n))) for n in range(8)},
        stale=frozenset(map(str, stale)),
        forced=frozenset(map(str, forced)),
    )
    reached = stale | forced | {d for n in stale | forced for d in nx.descendants(reference, n)}
    assert graph.may_run() == tuple(map(str, sorted(reached)))
    assert graph.descendants("3") == frozenset(map(str, nx.descendants(reference, 3)))


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
