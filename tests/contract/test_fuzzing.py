"""Requests made up from the API's description find nothing that it does not say."""

import pytest

from tests.contract.fuzzing import fuzz, st

CASES = 660


@pytest.mark.slow
@pytest.mark.skipif(st() is None, reason="schemathesis is not there: pip install everlog[fuzz]")
def test_no_request_made_up_from_the_description_is_answered_otherwise_than_it_says() -> None:
    command = st()
    assert command is not None
    assert fuzz(command, cases=CASES, seed=1) == []
