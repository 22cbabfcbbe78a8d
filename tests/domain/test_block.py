from domain.block import BlockChanged, ChangeBlock, CreateBlock, DeleteBlock, block, changed_fields
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
    history.when(seen).then_refused(Refused, saying="at version 2, not at 1")


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
