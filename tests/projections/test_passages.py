"""What an agent's archive is told of times."""

from datetime import UTC

import pytest

from projections.passages import zone_of


@pytest.mark.parametrize("name", [None, "Mars/Olympus", "", "Europe", "../etc/passwd", "\0"])
def test_a_zone_that_nobody_knows_keeps_nothing_from_memory(name: str | None) -> None:
    assert zone_of(name) is UTC


def test_a_zone_goes_by_its_name() -> None:
    assert str(zone_of("Europe/Vienna")) == "Europe/Vienna"
