"""The page as HTML: the templates beside this module, filled in with what `contents` gathers."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def template_environment() -> Environment:
    """Environment for the templates of this package. All values are escaped, because users choose names of files."""
    return Environment(
        loader=PackageLoader("pipeline.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **values: Any) -> str:
    """A template of this package as text."""
    return template_environment().get_template(template).render(values)
