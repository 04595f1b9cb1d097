"""A real browser for tests: headless Chromium over its DevTools protocol, without a driver package.

    def test_page(browser: Browser) -> None:
        with browser.open("http://127.0.0.1:4200/", wait_for="Flow runs") as page:
            assert page.errors == [] and page.failed == []
            assert "my-flow" in page.dom()

A test module takes the fixture by `from tests.browser import browser  # noqa: F401`.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
SECONDS = 60.0
"""How long anything may take before it is a fault; two busy cores are slow."""
STEP = 0.1
"""Seconds between two looks."""
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-extensions", "--disable-component-update", "--disable-background-networking", "--disable-sync"),
    *("--no-proxy-server", "--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-port=0"),
)


class Page:
    """One open tab. What it complained of and asked for so far is in `errors`, `failed` and `requests`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._addresses: dict[str, str] = {}
        self._loaded = False
        self.errors: list[str] = []
        """Console errors, failed assertions and uncaught exceptions, in words."""
        self.failed: list[str] = []
        """Requests that failed or were answered with a status of 400 or more: `URL: why`."""
        self.requests: list[str] = []
        """Every address that was asked for, `data:` aside, the page itself first."""

    def evaluate(self, script: str) -> Any:
        """The JSON value of an expression, or of what its promise yields."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(f"{script}: {_thrown(found['exceptionDetails'])}")
        return found["result"].get("value")

    def dom(self) -> str:
        """The document as it stands now, as HTML."""
        return str(self.evaluate("document.documentElement.outerHTML"))

    def text(self) -> str:
        """What a reader sees."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def wait_for(self, text: str, seconds: float = SECONDS) -> None:
        """Until the page shows `text`; AssertionError, with what it shows instead, where it does not."""
        deadline = time.monotonic() + seconds
        while text not in (shown := self.text()):
            if time.monotonic() > deadline:
                raise AssertionError(f"no {text!r} within {seconds:g} s; errors: {self.errors}; the page: {shown}")
            self._listen()

    def screenshot(self, path: Path) -> None:
        """The whole page, not only what fits into the window, as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        deadline = time.monotonic() + SECONDS
        while True:
            message = json.loads(self._socket.recv(timeout=max(deadline - time.monotonic(), 0)))
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])
            self._note(message)

    def go(self, address: str) -> None:
        """Open an address and wait until it and all that it names is loaded."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self._loaded = False
        found = self.call("Page.navigate", url=address)
        assert "errorText" not in found, f"{address}: {found['errorText']}"
        deadline = time.monotonic() + SECONDS
        while not self._loaded:
            assert time.monotonic() < deadline, f"{address} did not load within {SECONDS:g} s"
            self._listen()

    def _listen(self) -> None:
        """Take in the next event, if one comes soon."""
        with suppress(TimeoutError):
            self._note(json.loads(self._socket.recv(timeout=STEP)))

    def _note(self, message: dict[str, Any]) -> None:
        """Keep what an event says."""
        kind, values = message.get("method", ""), message.get("params", {})
        if kind == "Page.loadEventFired":
            self._loaded = True
        elif kind == "Runtime.exceptionThrown":
            self.errors.append(_thrown(values["exceptionDetails"]))
        elif kind == "Runtime.consoleAPICalled" and values["type"] in ("error", "assert"):
            self.errors.append(" ".join(str(one.get("value", one.get("description"))) for one in values["args"]))
        elif kind == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.errors.append(f"{values['entry']['text']} {values['entry'].get('url', '')}".strip())
        elif kind == "Network.requestWillBeSent" and not values["request"]["url"].startswith("data:"):
            self._addresses[values["requestId"]] = values["request"]["url"]
            self.requests.append(values["request"]["url"])
        elif kind == "Network.responseReceived" and values["response"]["status"] >= 400:
            self.failed.append(f"{values['response']['url']}: status {values['response']['status']}")
        elif kind == "Network.loadingFailed" and not values.get("canceled"):
            self.failed.append(f"{self._addresses.get(values['requestId'], 'data:')}: {values['errorText']}")


def _thrown(details: dict[str, Any]) -> str:
    return str(details.get("exception", {}).get("description") or details["text"])


class Browser:
    """A running Chromium without a window."""

    def __init__(self, program: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._port = self._wait_for_port(folder / "DevToolsActivePort")
        except BaseException:
            self.close()
            raise

    def _wait_for_port(self, file: Path) -> int:
        deadline = time.monotonic() + SECONDS
        while not (file.exists() and (lines := file.read_text().split())):
            assert self._process.poll() is None, f"chromium ended at once with code {self._process.returncode}"
            assert time.monotonic() < deadline, f"chromium did not start within {SECONDS:g} s"
            time.sleep(STEP)
        return int(lines[0])

    @contextmanager
    def open(
        self,
        where: str | Path,
        *,
        wait_for: str | None = None,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        printed: bool = False,
    ) -> Iterator[Page]:
        """A tab with an address or a file; below 600 pixels of width it acts as a phone."""
        tab = self._ask("PUT", "new?about:blank")
        try:
            with connect(tab["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
                page = Page(socket)
                size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
                page.call("Emulation.setDeviceMetricsOverride", **size)
                scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
                page.call("Emulation.setEmulatedMedia", features=[scheme], media="print" if printed else "")
                page.go(where.resolve().as_uri() if isinstance(where, Path) else where)
                if wait_for is not None:
                    page.wait_for(wait_for)
                yield page
        finally:
            self._ask("GET", f"close/{tab['id']}")

    def _ask(self, method: str, what: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/json/{what}", method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=SECONDS) as answer:
            text = answer.read().decode()
        return json.loads(text) if text.startswith("{") else text

    def close(self) -> None:
        """End it, and the processes that it started."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # its profile is thrown away: nothing is to be saved
        self._process.wait()


def program() -> str | None:
    """Where the browser is, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Skips where there is no browser; where the environment variable CI is set, that is a fault instead."""
    found = program()
    if found is None:
        missing = f"no browser on this machine: none of {', '.join(NAMES)} is in PATH"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    folder = Path(tempfile.mkdtemp(prefix="browser-"))
    try:
        running = Browser(found, folder)
        try:
            yield running
        finally:
            running.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
