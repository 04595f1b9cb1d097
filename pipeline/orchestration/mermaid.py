"""The stage graph as a Mermaid flow chart."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline.orchestration.graph import StageGraph


def mermaid(graph: StageGraph) -> str:
    """The Mermaid source of a flow chart.

    All stages of one matrix are one box (`train x 6`). An edge that a longer path implies is left out.
    """
    members: dict[str, list[str]] = {}
    for stage in graph.order:
        members.setdefault(_box(stage), []).append(stage)
    lines = ["flowchart LR"]
    for box, stages in members.items():
        label = stages[0] if stages == [box] else f"{box} x {len(stages)}"
        lines.append(f'    {_identifier(box)}["{label}"]')
    edges = dict.fromkeys((_box(parent), _box(stage)) for stage in graph.order for parent in graph.parents[stage])
    lines += [f"    {_identifier(start)} --> {_identifier(end)}" for start, end in _without_implied(list(edges))]
    return "\n".join(lines) + "\n"


def _box(stage: str) -> str:
    """The name of a stage without the part that says which member of a matrix it is."""
    return stage.split("@")[0]


def _identifier(name: str) -> str:
    """An identifier for Mermaid: letters, digits and `_`. The prefix is needed because `end` is a key word."""
    return "s_" + "".join(character if character.isalnum() else "_" for character in name)


def _without_implied(edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The edges without loops, and without each edge whose end a longer path reaches."""
    children: dict[str, set[str]] = {}
    for start, end in edges:
        if start != end:
            children.setdefault(start, set()).add(end)

    def is_reachable(starts: Collection[str], goal: str) -> bool:
        seen: set[str] = set()
        to_visit = list(starts)
        while to_visit:
            node = to_visit.pop()
            if node == goal:
                return True
            if node not in seen:
                seen.add(node)
                to_visit += children.get(node, ())
        return False

    return [(start, end) for start, end in edges if start != end and not is_reachable(children[start] - {end}, end)]
