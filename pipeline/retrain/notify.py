"""Tell somebody: a JSON message to the address in BURNISH_WEBHOOK_URL. The address is a secret, so it is in no file."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from pipeline.retrain.records import Run

VARIABLE = "BURNISH_WEBHOOK_URL"
TIMEOUT_S = 10.0
WORTH_IT = ("failed", "held", "promoted", "rolled back")


def notify(root: Path, run: Run) -> bool:
    """Post what happened, as `text` (which chat services show) and in full; whether it was received.

    A message that does not get through is a line on stderr, never a failed run.
    """
    address = os.environ.get(VARIABLE)
    if not address or run.result not in WORTH_IT:
        return False
    import httpx

    text = f"burnish retrain in {root.name} on {socket.gethostname()}: {run.result}. {run.reason}".strip()
    try:
        httpx.post(address, json={"text": text, "run": run.to_json()}, timeout=TIMEOUT_S).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as fault:
        print(f"burnish: {VARIABLE}: the message did not get through ({type(fault).__name__})", file=sys.stderr)
        return False
    return True
