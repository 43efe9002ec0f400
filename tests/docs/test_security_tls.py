"""docs/security.md, TLS and mutual TLS: every command is run."""

import pytest

from tests.docs.walkthrough import Walkthrough
from tests.service.conftest import services
from tests.service.grpcurl import GRPCURL
from tests.service.processes import Services

__all__ = ["services"]


@pytest.mark.timeout(240)
@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")
def test_tls_commands_do_what_they_say(services: Services) -> None:
    page = Walkthrough(services)
    page.follow("TLS and mutual TLS")
    assert "penchant.v1.RecommendationService" in page.output_of("grpcurl")
    assert page.output_of("penchant health") == "SERVING\n"
    assert "subject=CN = penchant renewed\n" in page.output_of("s_client")
    assert page.run("grpcurl -cacert ca.pem localhost:50051 list").returncode != 0
