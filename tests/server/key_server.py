"""An identity provider for tests: keys, tokens signed by them, and a server of the key set."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER, AUDIENCE = "https://idp.example", "penchant"


@cache
def private_key(name: str) -> Any:
    """One key a name: `rsa...`, `weak...`, `ec...`, `p384...` or `ed...`."""
    if name.startswith("rsa"):
        return rsa.generate_private_key(65537, 2048)
    if name.startswith("weak"):
        return rsa.generate_private_key(65537, 1024)
    if name.startswith("p384"):
        return ec.generate_private_key(ec.SECP384R1())
    if name.startswith("ec"):
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def algorithm_of(name: str) -> str:
    kinds = {"rsa": "RS256", "wea": "RS256", "ec1": "ES256", "ec2": "ES256", "p38": "ES384"}
    return kinds.get(name[:3], "EdDSA")


def entry(name: str, **changes: Any) -> dict[str, Any]:
    """A key as it stands in a set; None leaves a field out."""
    algorithm = jwt.get_algorithm_by_name(algorithm_of(name))
    found = dict(algorithm.to_jwk(private_key(name).public_key(), as_dict=True))
    given = {"use": "sig", "kid": name, **found, **changes}
    return {key: value for key, value in given.items() if value is not None}


def key_set(*names: str) -> dict[str, Any]:
    return {"keys": [entry(name) for name in names]}


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims, but for the changes; None leaves one out."""
    given = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ada",
        "exp": int(time.time()) + 600,
        "tenant": "a",
        "scope": "recommend:read interactions:write",
        **changes,
    }
    return {key: value for key, value in given.items() if value is not None}


def token(name: str = "rsa1", *, kid: str | None = "", alg: str = "", **changes: Any) -> str:
    """A token signed by the key of that name; kid None: it names no key."""
    headers = {} if kid is None else {"kid": kid or name}
    return jwt.encode(claims(**changes), private_key(name), alg or algorithm_of(name), headers)


class KeyServer(http.server.ThreadingHTTPServer):
    """Serves `document`; answers 503 while `away`. Counts what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.document: object = key_set("rsa1")
        self.away = False
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/keys"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: KeyServer

    def do_GET(self) -> None:
        self.server.asked += 1
        body = json.dumps(self.server.document).encode()
        self.send_response(503 if self.server.away else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving_keys() -> Iterator[KeyServer]:
    server = KeyServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
