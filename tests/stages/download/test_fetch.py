"""Download over HTTP: resumed, limited in size, never mixed from two versions, one clear line for each error."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.project.faults import explain_fault
from stages.download import fetch as module
from stages.download.fetch import check_digest, digest_of, fetch
from stages.types import UserError
from tests.stages.download.server import Served, serving

OLD, NEW = (random.Random(seed).randbytes(300_000) for seed in (1, 2))
MIB = 2**20


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(OLD) as server:
        yield server


def get(served: Served, folder: Path, max_bytes: int = MIB) -> list[tuple[int, int | None]]:
    seen: list[tuple[int, int | None]] = []
    fetch(served.url, folder / "file", max_bytes, lambda *now: seen.append(now))
    return seen


def broken_off(served: Served, folder: Path, after: int = 100_000) -> None:
    """Leave an interrupted download."""
    served.cut = after
    with pytest.raises(ConnectionError, match="broke off") as caught:
        get(served, folder)
    assert explain_fault(caught.value)[0] == 75  # the flow tries again
    assert not (folder / "file").exists()
    served.cut = None


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_file(served: Served, tmp_path: Path) -> None:
    seen = get(served, tmp_path)
    assert (tmp_path / "file").read_bytes() == OLD
    assert names(tmp_path) == ["file"]
    assert seen[-1] == (len(OLD), len(OLD))


def test_a_file_of_unsaid_length(served: Served, tmp_path: Path) -> None:
    served.length = False
    assert get(served, tmp_path)[-1] == (len(OLD), None)
    assert (tmp_path / "file").read_bytes() == OLD


def test_it_goes_on_where_it_broke_off(served: Served, tmp_path: Path) -> None:
    broken_off(served, tmp_path)
    have = (tmp_path / "file.part").stat().st_size
    assert have > 0
    seen = get(served, tmp_path)
    assert served.asked == [None, f"bytes={have}-"]
    assert seen[0][0] > have
    assert (tmp_path / "file").read_bytes() == OLD


@pytest.mark.parametrize("etag", ['"2"', 'W/"2"', None])
def test_a_changed_file_is_not_glued(served: Served, tmp_path: Path, etag: str | None) -> None:
    broken_off(served, tmp_path)
    served.data, served.etag = NEW, etag
    get(served, tmp_path)
    assert (tmp_path / "file").read_bytes() == NEW


def test_a_changed_file_of_a_careless_server_is_not_glued(served: Served, tmp_path: Path) -> None:
    broken_off(served, tmp_path)
    served.data, served.careless = NEW + b"more", True
    with pytest.raises(ConnectionError, match="changed while it was downloaded"):
        get(served, tmp_path)
    get(served, tmp_path)
    assert (tmp_path / "file").read_bytes() == NEW + b"more"


@pytest.mark.parametrize("how", ["no ranges", "no version", "weak version"])
def test_it_starts_anew_where_it_cannot_go_on(served: Served, tmp_path: Path, how: str) -> None:
    served.ranges = how != "no ranges"
    served.etag = {"no version": None, "weak version": 'W/"1"'}.get(how, '"1"')
    broken_off(served, tmp_path)
    get(served, tmp_path)
    assert (tmp_path / "file").read_bytes() == OLD


def test_killed_before_the_last_step(served: Served, tmp_path: Path) -> None:
    broken_off(served, tmp_path)
    (tmp_path / "file.part").write_bytes(OLD)
    get(served, tmp_path)
    assert len(served.asked) == 1
    assert (tmp_path / "file").read_bytes() == OLD


def test_more_than_the_server_has(served: Served, tmp_path: Path) -> None:
    broken_off(served, tmp_path)
    (tmp_path / "file.part").write_bytes(OLD + b"x")
    with pytest.raises(ConnectionError):
        get(served, tmp_path)
    get(served, tmp_path)
    assert (tmp_path / "file").read_bytes() == OLD


def test_another_address_does_not_go_on(served: Served, tmp_path: Path) -> None:
    broken_off(served, tmp_path)
    served.data, served.url = NEW, served.url + "?v=2"
    get(served, tmp_path)
    assert served.asked == [None, None]
    assert (tmp_path / "file").read_bytes() == NEW


@pytest.mark.parametrize("length", [True, False])
def test_size_limit(served: Served, tmp_path: Path, length: bool) -> None:
    served.length = length
    with pytest.raises(UserError, match=r"300,000|bytes or more, above data.archive.max_gb .*200,000 bytes"):
        get(served, tmp_path, 200_000)
    assert not (tmp_path / "file").exists()
    assert not (tmp_path / "file.part").exists()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_faults_that_may_pass(served: Served, tmp_path: Path, status: int) -> None:
    served.status = status
    with pytest.raises(ConnectionError, match=f"answered {status}") as caught:
        get(served, tmp_path)
    assert explain_fault(caught.value)[0] == 75


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_final_answers(served: Served, tmp_path: Path, status: int) -> None:
    served.status, served.url = status, served.url + "?secret=1"
    with pytest.raises(UserError, match=rf"set\.zip answered {status}.*data\.folder.*data\.archive\.url") as caught:
        get(served, tmp_path)
    assert "secret" not in str(caught.value)


def test_redirects(served: Served, tmp_path: Path) -> None:
    served.redirect = "/moved"
    get(served, tmp_path)
    assert (tmp_path / "file").read_bytes() == OLD
    served.redirect = "/again"
    with pytest.raises(UserError, match="redirects"):
        fetch(served.url, tmp_path / "other", MIB, lambda done, total: None)
    served.redirect = "ftp://example.org/set.zip"
    with pytest.raises(UserError, match="address that a browser opens"):
        fetch(served.url, tmp_path / "other", MIB, lambda done, total: None)


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://name:password@127.0.0.1:{taken.getsockname()[1]}/set.zip"
        with pytest.raises(
            UserError, match=r"cannot be reached.*data\.folder.*data\.archive\.url to its path"
        ) as caught:
            fetch(url, tmp_path / "file", MIB, lambda done, total: None)
    assert "\n" not in str(caught.value)
    assert "password" not in str(caught.value)


def test_a_name_that_nobody_answers_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up a name has no timeout of its own."""
    import threading

    ended = threading.Event()
    monkeypatch.setattr(module, "CONNECT_S", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ended.wait(60) and [])
    start = time.monotonic()
    with pytest.raises(UserError, match=r"no connection within 0\.1 s"):
        fetch("http://example.invalid/set.zip", tmp_path / "file", MIB, lambda done, total: None)
    assert time.monotonic() - start < 30  # it did not wait for the name
    ended.set()


def test_the_limits_keep_within_five_seconds() -> None:
    assert module.CONNECT_S < 5


def test_digest(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest_of(tmp_path / "file") == right
    check_digest(tmp_path / "file", right)
    with pytest.raises(UserError, match=f"{right}.*{'0' * 64}"):
        check_digest(tmp_path / "file", "0" * 64)
