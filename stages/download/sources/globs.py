"""Globs over paths: the meaning of the parameters `normal`, `defect` and `mask` of source `folder`."""

from __future__ import annotations

import re
from functools import cache

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]/]*\]|\{type\}|\{stem\}")
_ANY_FOLDERS, _ANY_PATH, _ANY_NAME, _ANY_LETTER = r"(?:[^/]+/)*", r".*", r"[^/]*", r"[^/]"


@cache
def regex(glob: str, kind: str | None = None) -> re.Pattern[str]:
    """The glob as a regular expression for paths with '/' between parts, to be used with `fullmatch`.

    `**/` matches any number of folders, a final `**` everything below, `*` any part of a name, `?` one letter, `[ab]`,
    `[a-c]`, `[!a]` one letter of a set; everything else matches itself, including letter case. `{stem}` matches any
    path, `{type}` matches `kind`, or any name if `kind` is None. The first lone `*` is the group `first`.

    Raises:
        re.error: an empty or reversed set.
    """
    pattern, end, has_star = "", 0, False
    for token in _TOKEN.finditer(glob):
        pattern += re.escape(glob[end : token.start()])
        end = token.end()
        text = token.group()
        if text == "*" and not has_star:
            pattern += f"(?P<first>{_ANY_NAME})"
            has_star = True
        else:
            pattern += _regex_of_token(text, kind)
    return re.compile(pattern + re.escape(glob[end:]), re.DOTALL)


def _regex_of_token(token: str, kind: str | None) -> str:
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
