"""Send the result of a run to the address in BURNISH_WEBHOOK_URL. The address is a secret, so no file contains it."""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from pipeline.project.proxies import is_loopback, keep_loopback_direct, unusable_proxies
from pipeline.retrain.records import Run

URL_VARIABLE = "BURNISH_WEBHOOK_URL"
TIMEOUT_S = 10.0
NOTIFIED_RESULTS = ("failed", "held", "promoted", "rolled back")


def notify(root: Path, run: Run, timeout_s: float = TIMEOUT_S) -> bool:
    """Post a run as JSON, with a `text` that chat services show; returns whether the receiver accepted it.

    If posting fails, a line is printed to stderr, and the run goes on.

    Args:
        timeout_s: limit of the whole exchange, in seconds.
    """
    address = os.environ.get(URL_VARIABLE)
    if not address or run.result not in NOTIFIED_RESULTS:
        return False
    text = f"burnish retrain in {root.name} on {socket.gethostname()}: {run.result}. {run.reason}".strip()
    fault = _post(address, {"text": text, "run": run.to_json()}, timeout_s)
    if fault:
        print(f"burnish: {URL_VARIABLE}: the message could not be sent ({fault})", file=sys.stderr)
    return not fault


def _post(address: str, content: dict[str, Any], timeout_s: float) -> str:
    """Post JSON; returns why that failed, or nothing.

    The limit is for the whole exchange. That of httpx is for each read, and a receiver that sends a byte now and then
    would hold a run that is done for ever. So the exchange is in a thread of its own, which does not outlive us.
    """
    results: queue.Queue[str] = queue.Queue()
    unusable = {} if is_loopback(address) else unusable_proxies(os.environ)
    proxy = "".join(f"; the proxy in {name} cannot be used: {why}" for name, why in unusable.items())

    def exchange() -> None:
        try:
            import httpx

            keep_loopback_direct(os.environ)
            with httpx.stream("POST", address, json=content, timeout=timeout_s) as reply:
                reply.raise_for_status()
            results.put("")
        except Exception as fault:  # also what httpx does not declare: ImportError and ValueError for some proxies
            results.put(type(fault).__name__ + proxy)

    threading.Thread(target=exchange, daemon=True).start()
    try:
        return results.get(timeout=timeout_s)
    except queue.Empty:
        return f"no complete answer within {timeout_s:g} s"
