"""docs/security.md, keys and scopes: every command is run, the table is that of the protos."""

import re

import pytest
from google.protobuf import descriptor_pool

from engine.access import SCOPES
from server.method_access import declared_scope
from server.wiring import SERVICES
from tests.docs import reading
from tests.docs.walkthrough import SECURITY, Walkthrough
from tests.service.conftest import services
from tests.service.grpcurl import GRPCURL
from tests.service.processes import Services, eventually

__all__ = ["services"]

_CALL = "grpcurl -plaintext %s localhost:50051 penchant.v1.%s"
_RECOMMEND = "RecommendationService/Recommend"


@pytest.mark.timeout(240)
@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")
def test_key_commands_do_what_they_say(services: Services) -> None:
    page = Walkthrough(services)
    page.follow("Keys")
    listed = page.output_of("keys list")
    for words in ("on call", "interactions:write recommend:read", "(operator)", "tenant:admin"):
        assert words in re.sub(r"\s+", " ", listed)
    assert '"recommendation_id"' in page.output_of(_RECOMMEND)
    assert '"tenant_id": "default"' in page.output_of("ListTenants")
    made = re.search(r'"secret": "(pk_[a-z2-7]{12}_\w{43})"', page.output_of("CreateApiKey"))
    assert made is not None

    def call(key: str, method: str) -> str:
        return page.run(_CALL % (f'-H "authorization: Bearer {key}"', method)).stderr

    assert "Code: PermissionDenied" in call("$(cat shop-next.key)", "AdminService/ListTenants")
    assert "Code: PermissionDenied" in call(made[1], _RECOMMEND)
    assert call("$(cat shop-next.key)", _RECOMMEND) == ""
    eventually(lambda: "Code: Unauthenticated" in call("$(cat shop.key)", _RECOMMEND), "revoked")
    assert "Code: Unauthenticated" in page.run(_CALL % ("", _RECOMMEND)).stderr
    secrets = [path.read_text().strip().rpartition("_")[2] for path in services.home.glob("*.key")]
    assert len(secrets) == 4
    assert page.service is not None
    assert not any(secret in page.service.log + listed for secret in secrets)


def test_scopes_table_equals_the_protos() -> None:
    rows = [reading.cells(row) for row in reading.marked(SECURITY, "scopes")[2:]]
    named = {
        scope.strip("`"): set(re.findall(r"`(\w+)/(\w+)`", allowed)) for scope, allowed in rows
    }
    expected: dict[str, set[tuple[str, str]]] = {scope: set() for scope in SCOPES}
    for service, _, _ in SERVICES:
        if service.startswith("penchant.v1."):
            for method in descriptor_pool.Default().FindServiceByName(service).methods:
                scope = declared_scope(service, method.name)
                assert scope is not None
                expected[scope].add((service.rpartition(".")[2], method.name))
    assert named == expected
