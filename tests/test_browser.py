"""The helper sees what a page does wrong: otherwise tests with it would show nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import Browser, browser  # noqa: F401

GOOD = "<!doctype html><title>t</title><body><p>plain words</p>"


def written(folder: Path, body: str) -> Path:
    path = folder / "page.html"
    path.write_text(GOOD + body)
    return path


def test_a_page_without_faults(browser: Browser, tmp_path: Path) -> None:  # noqa: F811
    path = written(tmp_path, "")
    with browser.open(path, wait_for="plain words") as page:
        assert (page.errors, page.failed, page.requests) == ([], [], [path.as_uri()])
        assert "<p>plain words</p>" in page.dom()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("<script>console.error('too', 'bad')</script>", "too bad"),
        ("<script>null.x</script>", "TypeError"),
        ("<script>Promise.reject(new Error('lost'))</script>", "lost"),
    ],
)
def test_errors_are_seen(browser: Browser, tmp_path: Path, body: str, error: str) -> None:  # noqa: F811
    with browser.open(written(tmp_path, body), wait_for="plain") as page:
        page.evaluate("new Promise(done => setTimeout(done))")  # a rejection is reported after the load
        assert len(page.errors) == 1
        assert error in page.errors[0]


def test_a_missing_file_is_seen(browser: Browser, tmp_path: Path) -> None:  # noqa: F811
    with browser.open(written(tmp_path, "<img src='no.png'>")) as page:
        assert len(page.failed) == 1
        assert "no.png: net::ERR_FILE_NOT_FOUND" in page.failed[0]
        assert page.requests[-1].endswith("no.png")


def test_text_that_comes_later_is_waited_for(browser: Browser, tmp_path: Path) -> None:  # noqa: F811
    script = "<script>setTimeout(() => document.querySelector('p').textContent = 'at last', 300)</script>"
    with browser.open(written(tmp_path, script), wait_for="at last") as page, pytest.raises(AssertionError, match="no"):
        page.wait_for("never", seconds=0.2)


def test_width_scheme_and_screenshot(browser: Browser, tmp_path: Path) -> None:  # noqa: F811
    path = written(tmp_path, "<meta name=viewport content='width=device-width'><div style='height:3000px'>")
    with browser.open(path, width=390, dark=True) as page:
        assert page.evaluate("[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]") == [390, True]
        page.screenshot(tmp_path / "shot.png")
    from PIL import Image

    with Image.open(tmp_path / "shot.png") as image:
        assert image.size[0] == 390
        assert image.size[1] > 3000
