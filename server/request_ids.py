"""Ids of calls: in the log, and in the trailing metadata of answers."""

import os
import re

REQUEST_ID_KEY = "x-request-id"

_SANE = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id_of(given: str | bytes | None) -> str:
    """The caller's own id if it is sane, else a new one."""
    if isinstance(given, str) and _SANE.fullmatch(given):
        return given
    return os.urandom(16).hex()
