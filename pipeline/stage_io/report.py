"""Stage `report`: all results of a run as one page that needs nothing but itself."""

from __future__ import annotations

from pathlib import Path

from pipeline.project import paths
from pipeline.project.params import Params
from pipeline.report.circumstances import finish, replace
from pipeline.report.contents import body


def report(params: Params) -> None:
    """data/report/body.html, which holds results alone; and beside it index.html, with commit, machine and times."""
    replace(paths.REPORT_BODY, body(params))
    finish(Path())
