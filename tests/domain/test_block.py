from typing import Any

from domain.block import (
    CAUSES_MAX,
    BlockChanged,
    BlockCreated,
    BlockMoved,
    ChangeBlock,
    CreateBlock,
    DeleteBlock,
    EditBlock,
    block,
    changed_fields,
)
from domain.block_edits import Insertion, Replacement, Rewriting
from domain.errors import NotFound, Refused
from domain.run import Cause
from tests.examples import (
    BLOCK_SETTINGS,
    CONVERSATION_ID,
    block_created,
    block_deleted,
    settings_of,
)
from tests.given import given, state_of

create = CreateBlock(BLOCK_SETTINGS)
rewritten = BlockChanged(base_version=1, value="I am Grace.")
rewrite = ChangeBlock({"value": "I am Grace."})


def test_a_block_is_created_with_its_settings() -> None:
    given(block).when(create).then(block_created)


def test_a_block_is_created_once() -> None:
    given(block, block_created).when(create).then_refused(Refused, saying="exists already")


def test_a_deleted_block_is_not_created_again() -> None:
    given(block, block_created, block_deleted).when(create).then_refused(Refused)


def test_a_block_that_was_never_created_is_not_found() -> None:
    given(block).when(rewrite).then_refused(NotFound)
    given(block).when(DeleteBlock()).then_refused(NotFound)


def test_a_deleted_block_is_not_found() -> None:
    given(block, block_created, block_deleted).when(rewrite).then_refused(NotFound)
    given(block, block_created, block_deleted).when(DeleteBlock()).then_refused(NotFound)


def test_a_change_records_only_what_differs_and_on_what_it_was_based() -> None:
    same = {"label": "persona", "value": "I am Grace."}
    asked = given(block, block_created).when(ChangeBlock(same))
    asked.then(rewritten)
    assert settings_of(asked.decided()[0]) == {"base_version", "value"}


def test_a_change_to_what_is_already_so_changes_nothing() -> None:
    given(block, block_created, rewritten).when(rewrite).then_nothing_happens()


def test_a_change_of_the_version_that_its_editor_saw_is_taken() -> None:
    seen = ChangeBlock({"value": "I am Grace."}, base_version=1)
    given(block, block_created).when(seen).then(rewritten)


def test_a_change_of_an_older_version_is_refused_with_both_versions() -> None:
    seen = ChangeBlock({"value": "I am Alan."}, base_version=1)
    history = given(block, block_created, rewritten)
    history.when(seen).then_refused(BlockMoved, saying="at version 2, not at 1")


def test_a_change_names_the_tool_call_that_led_to_it() -> None:
    cause = Cause(stream=CONVERSATION_ID, offset=7)
    asked = given(block, block_created).when(ChangeBlock({"value": "I am Grace."}, cause=cause))
    asked.then(rewritten.model_copy(update={"cause": cause}))


def test_a_cause_alone_is_no_change() -> None:
    cause = Cause(stream=CONVERSATION_ID, offset=7)
    same = ChangeBlock({"value": "I am Ada."}, cause=cause)
    given(block, block_created).when(same).then_nothing_happens()


def test_the_settings_of_a_change_are_neither_its_base_nor_its_cause() -> None:
    cause = Cause(stream=CONVERSATION_ID, offset=7)
    change = BlockChanged(base_version=1, value="I am Grace.", read_only=True, cause=cause)
    assert changed_fields(change) == {"value", "read_only"}


def test_a_block_is_deleted() -> None:
    given(block, block_created).when(DeleteBlock()).then(block_deleted)


def test_the_state_is_the_newest_settings_and_the_version_of_the_last_fact() -> None:
    cause = Cause(stream=CONVERSATION_ID, offset=7)
    state = state_of(block, block_created, rewritten.model_copy(update={"cause": cause}))
    assert state.settings == BLOCK_SETTINGS.model_copy(update={"value": "I am Grace."})
    assert state.version == 2
    assert not state.deleted


def test_a_deleted_block_keeps_what_it_was() -> None:
    state = state_of(block, block_created, block_deleted)
    assert state.deleted
    assert state.settings == BLOCK_SETTINGS


def test_a_change_to_what_was_never_created_is_folded_without_complaint() -> None:
    assert state_of(block, rewritten).settings is None


# --- edits ------------------------------------------------------------------------------------

CALL = Cause(stream=CONVERSATION_ID, offset=7)
add = EditBlock(Insertion("I like tea."), CALL)
added = BlockChanged(base_version=1, value="I am Ada.\nI like tea.", cause=CALL)


def created(**settings: Any) -> BlockCreated:
    return BlockCreated(settings=BLOCK_SETTINGS.model_copy(update=settings))


def test_an_edit_is_made_to_the_text_as_it_is_when_it_is_decided() -> None:
    given(block, block_created).when(add).then(added)
    later = BlockChanged(base_version=2, value="I am Grace.\nI like tea.", cause=CALL)
    given(block, block_created, rewritten).when(add).then(later)


def test_a_call_that_comes_again_edits_nothing() -> None:
    history = given(block, block_created, added, rewritten)
    history.when(add).then_nothing_happens()
    history.when(EditBlock(Replacement("gone", ""), CALL)).then_nothing_happens()
    again = ChangeBlock({"value": "other"}, cause=CALL)
    history.when(again).then_nothing_happens()


def test_another_edit_of_the_same_call_is_made() -> None:
    second = CALL.model_copy(update={"n": 1})
    asked = given(block, block_created, added).when(EditBlock(Rewriting(""), second))
    asked.then(BlockChanged(base_version=2, value="", cause=second))


def test_of_the_calls_that_edited_a_block_the_newest_are_known() -> None:
    calls = [Cause(stream=CONVERSATION_ID, offset=n) for n in range(CAUSES_MAX + 1)]
    changes = [BlockChanged(base_version=1, value=str(one.offset), cause=one) for one in calls]
    assert state_of(block, block_created, *changes).causes == tuple(calls[1:])


def test_a_read_only_block_refuses_edits_but_not_its_owner() -> None:
    history = given(block, created(read_only=True))
    history.when(add).then_refused(Refused, saying="read-only")
    history.when(rewrite).then(rewritten)


def test_an_edit_over_the_limit_is_refused_with_both_numbers() -> None:
    says = "would have 21 characters, and its limit is 20: it has 9 now"
    given(block, created(limit=20)).when(add).then_refused(Refused, saying=says)
    given(block, created(limit=21)).when(add).then(added)


def test_a_block_over_its_limit_may_be_made_shorter_step_by_step() -> None:
    history = given(block, created(limit=5, value="0123456789"))
    shorter = EditBlock(Replacement("0", ""), CALL)
    history.when(shorter).then(BlockChanged(base_version=1, value="123456789", cause=CALL))
    history.when(EditBlock(Replacement("0", "x"), CALL)).then_refused(Refused, saying="limit is 5")


def test_what_is_not_there_cannot_be_edited() -> None:
    given(block).when(add).then_refused(NotFound)
    given(block, block_created, block_deleted).when(add).then_refused(NotFound)


def test_a_change_says_which_version_it_went_back_to() -> None:
    back = ChangeBlock({"value": "I am Ada.", "description": None}, reverted_to=1)
    asked = given(block, block_created, rewritten).when(back)
    asked.then(BlockChanged(base_version=2, value="I am Ada.", reverted_to=1))
    assert changed_fields(BlockChanged(base_version=1, value="x", reverted_to=1)) == {"value"}
