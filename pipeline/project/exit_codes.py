"""Exit codes of `burnish` and of the stages that DVC runs."""

from __future__ import annotations

OK = 0
FAILED = 1
"""A fault: one line on stderr says what and what to do."""
USAGE = 2
"""The command line was wrong."""
DEFECTS = 3
"""`burnish predict --fail-on-defect`: an image was rejected, or got no verdict."""
TRANSIENT = 75
"""EX_TEMPFAIL of sysexits.h: a stage's download failed in a way that may pass; `burnish run` tries the stage again."""
INTERRUPTED = 130
"""Ctrl-C (128 + SIGINT)."""
TERMINATED = 143
"""128 + SIGTERM."""
