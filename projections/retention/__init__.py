"""What of the messages that left a window a summary has kept: found without a model.

Everything is compared as plain text (Unicode's compatible forms, one kind of quotation marks and
dashes, no case, no difference of spaces). Numbers, money and dates survive as the same value,
however it is spelled (`amounts`, `dates`); paths, URLs, e-mail addresses and identifiers as the same
address; names, commands, code and quotations as the same words in a row; questions and promises as
a line with most of their content words (`surviving`). Which kind goes first is told in `finding`,
which questions are open in `sentences`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias, get_args

import orjson

from domain.retention import Kind, KindRetention, Retention
from projections.retention.finding import found_in
from projections.retention.plain import plain
from projections.retention.surviving import Summary

__all__ = ["ITEMS_BYTES_MAX", "ITEMS_MAX", "ITEM_CHARS_MAX", "retention_of"]

ITEM_CHARS_MAX: Final = 100
ITEMS_MAX: Final = 50
# For all lists together, as JSON. With counts and the names of kinds a retention stays under 16 KB.
ITEMS_BYTES_MAX: Final = 14_500
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

Items: TypeAlias = tuple[str, ...]


def retention_of(evicted: Iterable[str], summary: str) -> Retention:
    """Tell which of the different things said in the evicted texts are in the summary.

    Counts are of all of them and do not depend on the order of the texts. A summary that grows by
    lines never loses a thing. Items are as said but for their typography, cut to ITEM_CHARS_MAX, at
    most ITEMS_MAX in a list.
    """
    said, often = _said([plain(text) for text in evicted])
    if not often:
        return Retention(score=1, kinds={})
    held = Summary(summary)
    kept: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
    lost: dict[Kind, list[str]] = {kind: [] for kind in KINDS}
    for kind, key in often:
        (kept if held.holds(kind, key) else lost)[kind].append(said[kind, key])
    share = ITEMS_BYTES_MAX // sum(map(bool, (*kept.values(), *lost.values())))
    return Retention(
        score=sum(map(len, kept.values())) / len(often),
        kinds={
            kind: _of_kind(kept[kind], lost[kind], share)
            for kind in KINDS
            if kept[kind] or lost[kind]
        },
    )


def _said(texts: Sequence[str]) -> tuple[dict[tuple[Kind, str], str], list[tuple[Kind, str]]]:
    """Give how each different thing was first said; and all, those said most often first."""
    times: Counter[tuple[Kind, str]] = Counter()
    said: dict[tuple[Kind, str], str] = {}
    for thing in found_in(texts):
        times[thing.kind, thing.key] += 1
        said.setdefault((thing.kind, thing.key), thing.text)
    return said, sorted(said, key=times.__getitem__, reverse=True)


def _of_kind(kept: Sequence[str], lost: Sequence[str], bytes_max: int) -> KindRetention:
    return KindRetention(
        found=len(kept) + len(lost),
        kept=len(kept),
        kept_items=_items(kept, bytes_max),
        lost_items=_items(lost, bytes_max),
    )


def _items(said: Sequence[str], bytes_max: int) -> Items:
    """Give the first items, as many as fit."""
    items: list[str] = []
    for text in said[:ITEMS_MAX]:
        item = _item(text)
        bytes_max -= len(orjson.dumps(item)) + 1
        if bytes_max < 0:
            break
        items.append(item)
    return tuple(items)


def _item(text: str) -> str:
    """Cut a text to an item of one line; other control characters would cost six bytes each."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= ITEM_CHARS_MAX else line[: ITEM_CHARS_MAX - 1].rstrip() + "…"
