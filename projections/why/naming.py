"""The answer's offsets as those of the streams they are in: a fork has inherited some of them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

from domain.conversation import Lineage
from domain.event import Value
from projections.why.values import Evictor, Occurrence, WhyAnswer

Part = TypeVar("Part", bound=Value)
OFFSET: Final[Mapping[str, str]] = MappingProxyType({"offset": "stream"})
STAY: Final[Mapping[str, str]] = MappingProxyType(
    {"entered_at": "entered_stream", "left_at": "left_stream"}
)
OCCURRENCE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "offset": "stream",
        "rolled_back_at": "rolled_back_stream",
        "evicted_at": "evicted_stream",
    }
)


def named(answer: WhyAnswer, lineage: Lineage) -> WhyAnswer:
    """Name the streams of what was inherited; an answer about no fork is given back as it is."""
    if not lineage.ancestors:
        return answer
    return answer.model_copy(
        update={
            "occurrences": tuple(_occurrence(one, lineage) for one in answer.occurrences),
            "only_in_summaries": _parts(answer.only_in_summaries, lineage, OFFSET),
            "closest": _parts(answer.closest, lineage, OFFSET),
        }
    )


def _occurrence(one: Occurrence, lineage: Lineage) -> Occurrence:
    return _named(one, lineage, OCCURRENCE).model_copy(
        update={
            "compaction": None if one.compaction is None else _evictor(one.compaction, lineage),
            "chain": _parts(one.chain, lineage, OFFSET),
            "survives_in": _parts(one.survives_in, lineage, OFFSET),
            "windows": _parts(one.windows, lineage, STAY),
        }
    )


def _evictor(one: Evictor, lineage: Lineage) -> Evictor:
    changes = {
        "ranges": lineage.named_spans(one.ranges),
        "planned_at": lineage.named(one.planned_at)[1],
    }
    return _named(one, lineage, OFFSET).model_copy(update=changes)


def _parts(
    parts: tuple[Part, ...], lineage: Lineage, fields: Mapping[str, str]
) -> tuple[Part, ...]:
    return tuple(_named(one, lineage, fields) for one in parts)


def _named(part: Part, lineage: Lineage, fields: Mapping[str, str]) -> Part:
    """Name the offsets in some fields, each with the field for its stream."""
    changes: dict[str, Any] = {}
    for name, beside in fields.items():
        place = getattr(part, name)
        if place is not None:
            changes[beside], changes[name] = lineage.named(place)
    return part.model_copy(update=changes)
