"""Facts as released versions wrote them: each file still loads and means what it meant, for ever."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from app.mapper import GENESIS, PLAIN, Row, data_of, revive
from domain.events import REGISTRY

EXAMPLES = sorted(Path(__file__).parent.glob("*.json"))


def stored(path: Path) -> Any:
    return orjson.loads(path.read_bytes())


def test_every_type_of_fact_has_an_example() -> None:
    assert {stored(path)["topic"] for path in EXAMPLES} == set(REGISTRY)


def test_every_field_of_every_fact_stands_in_an_example() -> None:
    shown: dict[str, set[str]] = {}
    for path in EXAMPLES:
        example = stored(path)
        shown.setdefault(example["topic"], {"type"}).update(example["body"]["data"])
    missing = {
        topic: set(kind.model_fields) - shown[topic]
        for topic, kind in REGISTRY.items()
        if set(kind.model_fields) - shown[topic]
    }
    assert missing == {}


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_old_fact_loads_and_would_be_stored_the_same_again(path: Path) -> None:
    example = stored(path)
    body = orjson.dumps(example["body"])
    fact = revive(Row("conv-x", 7, example["topic"], GENESIS + PLAIN + body))
    assert type(fact.event) is REGISTRY[example["topic"]]
    assert (fact.by, fact.version) == (example["body"]["by"], 7)
    assert orjson.loads(data_of(fact.event)) == example["body"]["data"]
