"""`burnish stage NAME`, which dvc.yaml calls: runs one stage in this process, and reports an error in one line."""

from __future__ import annotations

import sys
import time
import traceback
from datetime import UTC, datetime

from pipeline.project import exit_codes
from pipeline.project.faults import explain_fault
from pipeline.project.paths import LOGS
from stages.types import UserError


def run_stage(name: str, category: str | None, detector: str | None) -> int:
    """Run a stage, and return the exit code. If it is not 0, the last line on stderr is `burnish: error: ...`."""
    try:
        from pipeline.stage_io.run_stage import run

        start = time.monotonic()
        run(name, category, detector)
        _write_time("-".join(filter(None, (name, category, detector))), time.monotonic() - start)
    except KeyboardInterrupt:
        _print_error("interrupted; run again to continue")
        return exit_codes.INTERRUPTED
    except UserError as error:
        _print_error(str(error))
        return exit_codes.FAILED
    except Exception as error:
        code, message = explain_fault(error)
        if message is None:  # a bug in Burnish: print the traceback, which `burnish run` keeps in the log
            traceback.print_exc()
            message = f"stage {name} stopped on a bug: {type(error).__name__}: {error}; please report it with the log"
        _print_error(message)
        return code
    return exit_codes.OK


def _write_time(stage: str, seconds: float) -> None:
    """Write data/logs/STAGE.time.json for the report: the duration of the stage's latest run, and when it ended."""
    from pipeline.stage_io.saving import write_json

    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(LOGS / f"{stage}.time.json", {"seconds": round(seconds, 2), "finished": now})


def _print_error(message: str) -> None:
    """Print a message as one line, even if it holds line breaks."""
    sys.stdout.flush()
    print("burnish: error: " + " ".join(message.split()), file=sys.stderr, flush=True)
