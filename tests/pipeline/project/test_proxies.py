"""Proxies of the environment, settings of another Prefect, and a server that wants a password."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.doctor.project import check_proxies
from pipeline.orchestration.server_discovery import answers, refusal
from pipeline.orchestration.server_settings import configure_prefect
from pipeline.project.proxies import VARIABLES, is_loopback, keep_loopback_direct, unusable_proxies
from tests.conftest import ROOT
from tests.pipeline.orchestration.healthy import healthy


@pytest.fixture
def api() -> Iterator[str]:
    """A Prefect server with a password: its health is public."""
    with healthy("me:secret") as address:
        yield address


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for name in (*VARIABLES, "NO_PROXY", "no_proxy"):
        os.environ.pop(name, None)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_loopback_never_goes_through_a_proxy(api: str, name: str) -> None:
    os.environ[name] = "http://192.0.2.1:9"  # an address that nobody has
    assert answers(api)
    keep_loopback_direct(os.environ)
    script = f"import httpx; print(httpx.get('{api}/health', timeout=5).status_code)"  # as Prefect's client does
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, check=False)
    assert done.stdout == "200\n", done.stderr
    assert os.environ[name] == "http://192.0.2.1:9"  # downloads still use it


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("socks5://proxy:1080", "pip install socksio"),
        ("socks://proxy:1080", "write it as http://HOST:PORT"),
        ("proxy:3128", "write it as http://HOST:PORT"),
        ("http://", "write it as http://HOST:PORT"),
        ("http://proxy:port", "write it as http://HOST:PORT"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_line(
    value: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.environ["ALL_PROXY"] = value
    (finding,) = check_proxies(tmp_path)
    assert (finding.level, words in finding.fix) == ("warn", True)
    configure_prefect(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("burnish: warning: the proxy in ALL_PROXY is not used; ")
    assert words in line
    script = "import httpx; httpx.Client()"  # fails if such a proxy is set
    assert subprocess.run([sys.executable, "-c", script], env=os.environ, check=False).returncode == 0
    (finding,) = check_proxies(tmp_path)
    assert finding.level == "ok"


def test_usable_proxies_stay_and_exemptions_of_the_user_too() -> None:
    environment = {"HTTPS_PROXY": "http://proxy.factory:3128", "NO_PROXY": "intranet, 127.0.0.1"}
    assert unusable_proxies(environment) == keep_loopback_direct(environment) == {}
    assert environment["HTTPS_PROXY"] == "http://proxy.factory:3128"
    assert environment["NO_PROXY"] == "intranet,127.0.0.1,localhost,::1"
    assert [is_loopback(f"http://{host}:1/api") for host in ("127.0.0.1", "localhost", "[::1]", "10.0.0.1")] == [
        *(True, True, True, False)
    ]


@pytest.mark.parametrize("name", ["PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"])
def test_settings_for_another_server_are_not_for_ours(name: str, tmp_path: Path) -> None:
    os.environ.pop("PREFECT_API_URL", None)
    os.environ[name] = "me:secret"
    configure_prefect(tmp_path)
    assert name not in os.environ
    os.environ |= {"PREFECT_API_URL": "http://10.0.0.1:4200/api", name: "me:secret"}
    configure_prefect(tmp_path)
    assert os.environ[name] == "me:secret"


def test_a_server_that_wants_a_password(api: str) -> None:
    for name in ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"):
        os.environ.pop(name, None)
    assert answers(api)
    assert "wants a password: set PREFECT_API_AUTH_STRING" in str(refusal(api))
    os.environ["PREFECT_API_AUTH_STRING"] = "me:wrong"
    assert "does not accept PREFECT_API_AUTH_STRING" in str(refusal(api))
    os.environ["PREFECT_API_AUTH_STRING"] = "me:secret"
    assert refusal(api) is None


@pytest.mark.long
@pytest.mark.parametrize("command", ["run", "doctor"])
def test_commands_say_that_a_server_wants_a_password(api: str, command: str, fresh: Path) -> None:
    environment = {**os.environ, "PREFECT_API_URL": api, "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-m", "pipeline", command]
    done = subprocess.run(call, cwd=fresh, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    text = " ".join((done.stdout + done.stderr).split())
    assert "wants a password" in text
    assert "set PREFECT_API_AUTH_STRING to USER:PASSWORD of that server, or unset PREFECT_API_URL" in text
    assert "Traceback" not in text
