"""Send the result of a run to the address in BURNISH_WEBHOOK_URL. The address is a secret, so no file contains it."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

from pipeline.retrain.records import Run

URL_VARIABLE = "BURNISH_WEBHOOK_URL"
TIMEOUT_S = 10.0
NOTIFIED_RESULTS = ("failed", "held", "promoted", "rolled back")


def notify(root: Path, run: Run) -> bool:
    """Post a run as JSON, with a `text` that chat services show; returns whether the receiver accepted it.

    If posting fails, a line is printed to stderr, and the run goes on.
    """
    address = os.environ.get(URL_VARIABLE)
    if not address or run.result not in NOTIFIED_RESULTS:
        return False
    import httpx

    text = f"burnish retrain in {root.name} on {socket.gethostname()}: {run.result}. {run.reason}".strip()
    try:
        httpx.post(address, json={"text": text, "run": run.to_json()}, timeout=TIMEOUT_S).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as fault:
        print(f"burnish: {URL_VARIABLE}: the message could not be sent ({type(fault).__name__})", file=sys.stderr)
        return False
    return True
