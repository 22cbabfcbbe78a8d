"""A block's versions: each follows from the one before it, and any may be gone back to."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from domain.block import (
    Block,
    BlockCreated,
    BlockDeleted,
    BlockEvent,
    BlockSettings,
    ChangeBlock,
    block,
)
from domain.event import Recorded
from projections.block_history import BlockVersion, remembered, version_of
from projections.system import MemoryBlock
from tests.examples import BLOCK_ID, OTHER_BLOCK_ID, THIRD_BLOCK_ID, block_created
from tests.projections.test_diff import TEXTS, patched

AT = datetime(2026, 1, 2, tzinfo=UTC)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "value": TEXTS,
        "label": st.sampled_from(["a", "b"]),
        "description": st.sampled_from([None, "c"]),
        "limit": st.integers(1, 3),
        "tags": st.sampled_from([(), ("t",)]),
        "read_only": st.booleans(),
    },
)
Step = tuple[Block, Block, Recorded[BlockEvent]]


def lived(*asked: dict[str, Any]) -> list[Step]:
    """Give the steps of a block that was created, then changed like this."""
    steps = [_step(Block(), block_created, 1)]
    for changes in asked:
        state = steps[-1][1]
        for event in block.decide(state, ChangeBlock(changes)):
            steps.append(_step(state, event, state.version + 1))
    return steps


def _step(before: Block, event: BlockEvent, version: int) -> Step:
    after = block.evolve(before, event, version)
    return before, after, Recorded(BLOCK_ID, version, AT, "user", event)


def shown(steps: Sequence[Step]) -> list[BlockVersion]:
    return [version_of(before, after, fact, None) for before, after, fact in steps]


@given(st.lists(CHANGES, max_size=6))
def test_the_diffs_applied_one_after_the_other_give_every_value(
    asked: list[dict[str, Any]],
) -> None:
    steps, value = lived(*asked), ""
    for version, (_, after, _) in zip(shown(steps), steps, strict=True):
        value = patched(value, version.diff)
        assert after.settings is not None
        assert (value, len(value)) == (after.settings.value, version.chars)


@given(st.lists(CHANGES, max_size=6), st.data())
def test_going_back_to_a_version_gives_the_block_as_it_was(
    asked: list[dict[str, Any]], data: st.DataObject
) -> None:
    steps = lived(*asked)
    now, (_, then, fact) = steps[-1][1], data.draw(st.sampled_from(steps))
    assert then.settings is not None
    back = ChangeBlock(dict(then.settings), reverted_to=fact.version)
    for event in block.decide(now, back):
        now = block.evolve(now, event, now.version + 1)
    assert now.settings == then.settings


def test_a_version_tells_what_it_changed_from_what() -> None:
    made, changed = shown(lived({"value": "I am Ida.", "limit": 5}))
    assert (made.kind, made.base_version, made.diff.split("\n")[1]) == (
        "created",
        None,
        "+I am Ada.",
    )
    assert made.changes["label"].before is None
    assert (changed.kind, changed.base_version, changed.by, changed.at) == (
        "changed",
        1,
        "user",
        AT,
    )
    assert {name: (one.before, one.after) for name, one in changed.changes.items()} == {
        "limit": (100_000, 5)
    }
    assert changed.diff.startswith("@@ -1,1 +1,1 @@\n-I am Ada.\n")


def test_an_end_changes_nothing_and_a_way_back_says_where_to() -> None:
    (_, state, _) = lived()[-1]
    (end,) = shown([_step(state, BlockDeleted(), 2)])
    assert (end.kind, end.changes, end.diff, end.chars) == ("deleted", {}, "", 9)
    (event,) = block.decide(state, ChangeBlock({"value": "x"}, reverted_to=1))
    (back,) = shown([_step(state, event, 2)])
    assert (back.kind, back.reverted_to) == ("reverted", 1)


def held(block_id: str, version: int, value: str, label: str = "human") -> MemoryBlock:
    return MemoryBlock(block_id, version, BlockSettings(label=label, value=value))


def test_a_memory_is_set_beside_what_has_become_of_it() -> None:
    then = {"human": held(BLOCK_ID, 1, "a"), "gone": held(OTHER_BLOCK_ID, 1, "b", "gone")}
    now = [held(BLOCK_ID, 3, "c"), held(THIRD_BLOCK_ID, 1, "d", "new")]
    blocks, added = remembered(then, now)
    assert [(one.label, one.then.version, one.now and one.now.value) for one in blocks] == [
        ("human", 1, "c"),
        ("gone", 1, None),
    ]
    assert patched("a", blocks[0].diff) == "c"
    assert patched("b", blocks[1].diff) == ""
    assert [one.label for one in added] == ["new"]


def test_a_block_that_was_made_without_settings_of_its_own_shows_what_was_given() -> None:
    made = BlockCreated(settings=BlockSettings(label="human"))
    (version,) = shown([_step(Block(), made, 1)])
    assert (set(version.changes), version.diff) == ({"label"}, "")
