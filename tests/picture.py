"""The picture of the report that the README shows: the top of the page, without images of the data set.

    python -m tests.picture --out pipeline/report/report.png --page data/report/index.html

It needs Chromium. Without `--page`, the rendered data set `synthetic` is run first with three detectors, in a project
of its own; that takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser import Browser, program
from tests.conftest import change_params, make_project

SIZE = (1180, 900)
"""Of the part of the page that is shown, in CSS pixels."""
WIDTH = 900
"""Of the picture."""
COLOURS = 128


def drawn_report(folder: Path) -> Path:
    """Run the whole pipeline on the data set `synthetic`; the report's file."""
    project = make_project(folder / "project", tiny=False)
    change_params(project, {"data": {"source": "synthetic", "categories": ["brushed"]}})
    change_params(project, {"detectors": ["ear", "padim", "pca"], "fused": {"detectors": ["ear", "padim"]}})
    subprocess.run([sys.executable, "-m", "pipeline", "run"], cwd=project, check=True)
    return project / "data" / "report" / "index.html"


def photograph(page: Path, out: Path) -> None:
    """The top of a page as a small PNG."""
    found = program()
    if found is None:
        sys.exit("no browser: install chromium")
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(found, Path(profile))
        try:
            with browser.open(page, wait_for="report", width=SIZE[0], height=SIZE[1]) as tab:
                whole = Path(profile) / "page.png"
                tab.screenshot(whole)
                picture = Image.open(whole).convert("RGB").crop((0, 0, *SIZE))
        finally:
            browser.close()
    picture = picture.resize((WIDTH, round(WIDTH * SIZE[1] / SIZE[0])), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.quantize(COLOURS).save(buffer, "PNG", optimize=True)
    out.write_bytes(buffer.getvalue())
    print(f"{out}: {picture.width} x {picture.height}, {len(buffer.getvalue()) / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--page", type=Path, help="a report that is there already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photograph(options.page or drawn_report(Path(folder)), options.out)


if __name__ == "__main__":
    main()
