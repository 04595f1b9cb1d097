"""Prefect's settings in a project: no telemetry, no logs on the terminal, and its files in .prefect/."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pipeline.project.proxies import keep_loopback_direct

PREFECT_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_CLI_PROMPT": "false",
    # 14 s per call if the server is gone; Prefect's default of 5 retries takes 62 s
    "PREFECT_CLIENT_MAX_RETRIES": "3",
}
"""Environment variables of each process that uses Prefect."""
PAGE_SETTINGS = {
    "PREFECT_UI_ENABLED": "true",
    # relative, so that the page reaches the API under whatever host name the browser uses
    "PREFECT_UI_API_URL": "/api",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
"""Environment variables of a server that has the web page."""
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'"
)
"""HTTP header that limits what the page may load. Prefect's page calls a tracking service when it opens, even if
analytics are off; this policy makes the browser refuse. The graphs of the page need 'unsafe-eval'."""


def prefect_home(root: Path) -> Path:
    """The folder of a project in which Prefect keeps settings, database and server log."""
    return root / ".prefect"


def prefect_home_in_use() -> Path:
    """The folder that Prefect uses after `configure_prefect`: that of the project, unless the user set PREFECT_HOME."""
    return Path(os.environ["PREFECT_HOME"])


def configure_prefect(root: Path) -> None:
    """Set Prefect's environment variables. Call it before Prefect is imported, which reads its environment at import.

    Without PREFECT_API_URL, runs use a server of our own. Then settings of the user that are meant for another server,
    such as its password, do not count; only PREFECT_HOME does. With it, variables that the user has set stay.
    """
    for name, why in keep_loopback_direct(os.environ).items():
        print(f"burnish: warning: the proxy in {name} is not used; {why}", file=sys.stderr)
    if not os.environ.get("PREFECT_API_URL"):
        for name in [name for name in os.environ if name.startswith("PREFECT_") and name != "PREFECT_HOME"]:
            del os.environ[name]
    os.environ.setdefault("PREFECT_HOME", str(prefect_home(root.resolve())))
    for name, value in PREFECT_SETTINGS.items():
        os.environ.setdefault(name, value)
