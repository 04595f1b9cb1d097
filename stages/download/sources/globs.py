"""Globs over paths: what the parameters `normal`, `defect` and `mask` of source `folder` mean."""

from __future__ import annotations

import re
from functools import cache

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]|\{type\}|\{stem\}")
_ANY_FOLDERS, _ANY_PATH, _ANY_NAME, _ANY_LETTER = r"(?:[^/]+/)*", r".*", r"[^/]*", r"[^/]"


@cache
def regex(glob: str, kind: str | None = None) -> re.Pattern[str]:
    """The glob for paths with '/' between parts, to be used with `fullmatch`.

    `**/` stands for any number of folders, a last `**` for whatever lies below, `*` for any part of a name, `?` for a
    letter, `[ab]`, `[a-c]`, `[!a]` for one of a set; all else for itself, letter case too. `{stem}` stands for any
    path, `{type}` for `kind`, or where that is None for any name. The first lone `*` is the group `first`.

    Raises:
        re.error: an empty or reversed set.
    """
    pattern, at, starred = "", 0, False
    for token in _TOKEN.finditer(glob):
        pattern += re.escape(glob[at : token.start()])
        at = token.end()
        text = token.group()
        if text == "*" and not starred:
            pattern += f"(?P<first>{_ANY_NAME})"
            starred = True
        else:
            pattern += _translated(text, kind)
    return re.compile(pattern + re.escape(glob[at:]), re.DOTALL)


def _translated(token: str, kind: str | None) -> str:
    if token.startswith("["):
        inner = token[1:-1].removeprefix("!")
        escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", inner)
        return f"(?!/)[{'^' if token.startswith('[!') else ''}{escaped}]"
    return {
        "**/": _ANY_FOLDERS,
        "**": _ANY_PATH,
        "*": _ANY_NAME,
        "?": _ANY_LETTER,
        "{stem}": r".+",
        "{type}": r"[^/]+" if kind is None else re.escape(kind),
    }[token]
