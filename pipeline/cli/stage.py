"""`burnish stage NAME`, which dvc.yaml calls: run one stage here, and end with one clear line where it cannot."""

from __future__ import annotations

import sys
import time
import traceback
from datetime import UTC, datetime

from pipeline.project import exit_codes
from pipeline.project.faults import explain
from pipeline.project.paths import LOGS
from stages.types import UserError


def run_stage(name: str, category: str | None, detector: str | None) -> int:
    """Run a stage; return the exit code, after one line `burnish: error: ...` on stderr unless it is 0."""
    try:
        from pipeline.stage_io.run_stage import run

        start = time.monotonic()
        run(name, category, detector)
        _note_time("-".join(filter(None, (name, category, detector))), time.monotonic() - start)
    except KeyboardInterrupt:
        _complain("interrupted; run again to go on from what was done")
        return exit_codes.INTERRUPTED
    except UserError as error:
        _complain(str(error))
        return exit_codes.FAILED
    except Exception as error:
        code, message = explain(error)
        if message is None:  # a bug of ours: whoever mends it needs the traceback, which `burnish run` keeps in the log
            traceback.print_exc()
            message = f"stage {name} stopped on a bug: {type(error).__name__}: {error}; please report it with the log"
        _complain(message)
        return code
    return exit_codes.OK


def _note_time(stage: str, seconds: float) -> None:
    """data/logs/STAGE.time.json, for the report: how long the stage took when it last ran, and when it ended."""
    from pipeline.stage_io.saving import write_json

    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(LOGS / f"{stage}.time.json", {"seconds": round(seconds, 2), "finished": now})


def _complain(message: str) -> None:
    """One line, whatever the message holds."""
    sys.stdout.flush()
    print("burnish: error: " + " ".join(message.split()), file=sys.stderr, flush=True)
