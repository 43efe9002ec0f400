"""docs/security.md, tokens of an identity provider: every command is run."""

import pytest

from tests.docs.walkthrough import Walkthrough
from tests.service.conftest import services
from tests.service.grpcurl import GRPCURL
from tests.service.processes import Services

__all__ = ["services"]

_CALL = "grpcurl -plaintext %s localhost:50051 penchant.v1.%s"


@pytest.mark.timeout(240)
@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")
def test_token_commands_do_what_they_say(services: Services) -> None:
    page = Walkthrough(services)
    page.follow("Tokens of an identity provider")
    assert '"recommendation_id"' in page.output_of("RecommendationService/Recommend")
    bearer = '-H "authorization: Bearer $(cat token)"'
    beyond = page.run(_CALL % (bearer, "AdminService/ListTenants"))
    assert "Code: PermissionDenied" in beyond.stderr
    other = page.run(_CALL % (f"{bearer} -H 'x-tenant-id: b'", "RecommendationService/Recommend"))
    assert "Code: PermissionDenied" in other.stderr
    altered = page.run(_CALL % (bearer.replace("token)", "token)x"), "AdminService/ListTenants"))
    nobody = page.run(_CALL % ("", "RecommendationService/Recommend"))
    assert "Code: Unauthenticated" in altered.stderr
    assert "Code: Unauthenticated" in nobody.stderr
