"""The imitation study: shares of the recorded return, and the claims made from them."""

import pytest

from ttlib.records import Record
from ttlib.studies import imitation


def row(dataset="local:hopper-expert", method="tt-likelihood", returned=3300.0, error=30.0, recorded=3000.0):
    about = {"dataset": dataset, "method": method, "raw_return": returned, "raw_standard_error": error}
    return about | {"data_return": recorded}


def test_shares_are_percent_of_what_was_recorded():
    found = imitation.shares([row(), row(method="bc", returned=1500.0, error=None)])
    assert found["hopper", "tt-likelihood"] == pytest.approx((110.0, 1.0))
    assert found["hopper", "bc"] == pytest.approx((50.0, 0.0))
    with pytest.raises(ValueError, match="two rows of bc for hopper"):
        imitation.shares([row(method="bc"), row(method="bc")])


@pytest.mark.parametrize(("returned", "passed"), [(3001.0, True), (2999.0, False)])
def test_a_claim_is_about_plans_and_holds_from_the_experts_return_on(returned, passed):
    walker = "local:walker2d-expert"
    rows = [row(returned=returned), row(method="bc", returned=9000.0), row(walker, recorded=5000.0, returned=5500.0)]
    record = Record("imitation", "studies", rows=rows)
    imitation.claim(record)
    assert [(claim.id, claim.passed, claim.paper) for claim in record.claims] == [
        ("imitation_hopper", passed, 104.0),
        ("imitation_walker2d", True, 109.0),
    ]
    assert record.claims[1].value == pytest.approx(110.0)
    assert "| local:walker2d-expert | TT, plans | 5,500 ± 30 | 5,000 | 110.0 ± 0.6 |" in imitation.table(rows)
