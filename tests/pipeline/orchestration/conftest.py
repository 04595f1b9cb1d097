"""One toy project to copy, and one Prefect server for all runs: starting one takes longer than a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import server
from pipeline.processes import Group
from tests.pipeline.orchestration import toy


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy project in which nothing has run."""
    root = tmp_path_factory.mktemp("toy") / "project"
    toy.build(root)
    return root


@pytest.fixture(scope="session")
def reference(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy project in which plain `dvc repro` ran everything."""
    root = toy.copy(template, tmp_path_factory.mktemp("reference") / "project")
    toy.dvc(root, "repro")
    assert toy.journal(root) == toy.ORDER
    return root


@pytest.fixture
def fresh(template: Path, tmp_path: Path) -> Path:
    """A copy in which nothing has run."""
    return toy.copy(template, tmp_path / "fresh")


@pytest.fixture
def complete(reference: Path, tmp_path: Path) -> Path:
    """A copy in which everything is up to date."""
    return toy.copy(reference, tmp_path / "complete")


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prefect server that lives as long as the tests."""
    home = tmp_path_factory.mktemp("prefect")
    port = server._free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = toy.environment(PREFECT_HOME=str(home), **server.SETTINGS)
    environment.pop("PREFECT_API_URL", None)
    with (home / "server.log").open("wb") as log:
        group = Group(server._command(port), log, home, environment)
    try:
        toy.wait_for(lambda: server.answers(api) or not group.running(), 120)
        assert group.running(), (home / "server.log").read_text()
        yield api
    finally:
        group.stop()
        group.wait()


@pytest.fixture
def prefect_api(shared_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs in this test use the shared server."""
    monkeypatch.setenv("PREFECT_API_URL", shared_server)
    return shared_server
