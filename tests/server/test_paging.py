"""What page tokens are bound to."""

import pytest
from google.protobuf.duration_pb2 import Duration
from penchant.v1.common_pb2 import EntityRef
from penchant.v1.recommendation_pb2 import RecommendRequest, SimilarEntitiesRequest

from server.paging import hash_of

ASKED = RecommendRequest(user_id="ada", filter="year > 1990")


@pytest.mark.parametrize(
    ("more", "same"),
    [
        ({"page_token": "x"}, True),
        ({"page_size": 7, "page_token": "x"}, True),
        ({"at_least_as_fresh": "y"}, True),
        ({"max_staleness": Duration(seconds=1), "page_size": 7}, True),
        ({"include_seen": True}, False),
        ({"exclude": [EntityRef(entity_type="film", entity_id="a")]}, False),
        ({"user_id": "ben"}, False),
    ],
)
def test_hash_is_of_the_request_without_its_page_and_what_is_left_out(
    more: dict[str, object], same: bool
) -> None:
    without = {"at_least_as_fresh", "max_staleness"}
    other = RecommendRequest()
    other.CopyFrom(ASKED)
    other.MergeFrom(RecommendRequest(**more))  # type: ignore[arg-type]
    before = other.SerializeToString()
    assert (hash_of(other, "a", without) == hash_of(ASKED, "a", without)) is same
    assert other.SerializeToString() == before


def test_hash_is_of_the_tenant_the_kind_of_request_and_all_that_is_not_left_out() -> None:
    assert hash_of(ASKED, "a") != hash_of(ASKED, "b")
    assert hash_of(RecommendRequest(), "a") != hash_of(SimilarEntitiesRequest(), "a")
    assert hash_of(RecommendRequest(at_least_as_fresh="y"), "a") != hash_of(RecommendRequest(), "a")
