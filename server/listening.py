"""On which address a server may listen: on this machine's own while it knows no callers."""

import ipaddress

from server.settings import Settings

OPEN_WARNING = (
    "no API key was made and no identity provider is configured: listening on this machine only; "
    "make a key (penchant keys create --operator) and start again to listen where asked"
)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    bare = host.strip("[]")
    if bare == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False  # a name, which may lead anywhere


def is_wildcard(host: str) -> bool:
    """Whether an address stands for all of this machine's, loopback among them."""
    return host.strip("[]") in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound


def listening_host(settings: Settings, auth_required: bool) -> str:
    """The address to listen on: the configured one, or loopback while everybody is anonymous.

    Args:
        settings: whose `host` is wanted.
        auth_required: whether calls must say whose they are.
    """
    if auth_required or is_loopback(settings.host):
        return settings.host
    return "[::1]" if ":" in settings.host else "127.0.0.1"
