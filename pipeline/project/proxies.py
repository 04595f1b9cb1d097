"""Proxies of the environment: loopback never goes through one, and one that cannot be used is named.

HTTP_PROXY and its like are meant for other machines. A server of this project listens on loopback, which a proxy cannot
reach.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import MutableMapping
from importlib.util import find_spec
from urllib.parse import urlsplit

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
SOCKS_PACKAGE = "socksio"
"""What httpx, which Prefect uses, needs for SOCKS."""


def is_loopback(address: str) -> bool:
    """Whether a URL is of this machine."""
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        return False
    return host in LOOPBACK_HOSTS or host.startswith("127.")


def unusable_proxies(environment: MutableMapping[str, str]) -> dict[str, str]:
    """Variable -> why its proxy cannot be used and what to do, for those that cannot."""
    found = {}
    for name in VARIABLES:
        if value := environment.get(name, "").strip():
            try:
                parts = urlsplit(value)
                scheme, host = parts.scheme.lower(), parts.hostname
                _ = parts.port
            except ValueError:
                scheme, host = "", None
            if scheme in ("socks5", "socks5h"):
                if find_spec(SOCKS_PACKAGE) is None:
                    found[name] = f"SOCKS needs a package: pip install {SOCKS_PACKAGE}"
            elif scheme not in ("http", "https") or not host:
                found[name] = "write it as http://HOST:PORT, or unset it"
    return found


def keep_loopback_direct(environment: MutableMapping[str, str]) -> dict[str, str]:
    """Exempt loopback from proxies, and take proxies that cannot be used out of the environment.

    httpx fails when such a proxy is set, even if the request needs no proxy.

    Returns:
        What `unusable_proxies` gave.
    """
    unusable = unusable_proxies(environment)
    for name in unusable:
        del environment[name]
    for name in ("NO_PROXY", "no_proxy"):
        exempt = [host.strip() for host in environment.get(name, "").split(",") if host.strip()]
        environment[name] = ",".join([*exempt, *(host for host in LOOPBACK_HOSTS if host not in exempt)])
    return unusable


def opener_for(address: str) -> urllib.request.OpenerDirector:
    """What opens a URL: without any proxy if it is of this machine."""
    proxies = [urllib.request.ProxyHandler({})] if is_loopback(address) else []
    return urllib.request.build_opener(*proxies)


def describe_proxies() -> str:
    """Which variables name a proxy, without its address, which may hold a password."""
    return ", ".join(name for name in VARIABLES if os.environ.get(name, "").strip()) or "none"
