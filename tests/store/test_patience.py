"""How long a request waits at most for stores that are away, outside of tests."""

from __future__ import annotations

from server.store.patience import StorePatience


def test_no_request_waits_longer_than_a_second_for_a_store_that_is_away() -> None:
    patience = StorePatience()
    assert patience.redis_reply_s + patience.redis_connect_s <= 1.0
    assert max(patience.postgres_s, patience.sums_s) < 1.0
