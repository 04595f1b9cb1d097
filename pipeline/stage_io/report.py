"""Stage `report`: all results of a run as one self-contained page."""

from __future__ import annotations

from pathlib import Path

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.report.contents import render_body
from pipeline.report.run_facts import replace_file, write_index


def report(params: Params) -> None:
    """data/report/body.html, which holds results only; and beside it index.html, with commit, machine and times."""
    replace_file(paths.REPORT_BODY, render_body(params))
    write_index(Path())
