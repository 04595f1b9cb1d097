"""Exit codes of `burnish` and of the stages that DVC runs."""

from __future__ import annotations

OK = 0
FAILED = 1
"""A fault. One line on stderr says what happened and what to do."""
USAGE = 2
"""The command line is wrong."""
DEFECTS = 3
"""`burnish predict --fail-on-defect`: an image was rejected, or got no verdict."""
TRANSIENT = 75
"""EX_TEMPFAIL of sysexits.h. The download of a stage failed for a reason that may pass; `burnish run` retries it."""
INTERRUPTED = 130
"""Ctrl-C (128 + SIGINT)."""
TERMINATED = 143
"""128 + SIGTERM."""
