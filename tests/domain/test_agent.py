from domain.agent import (
    TOOLS_MAX,
    AgentChanged,
    AgentCreated,
    AgentSettings,
    AttachBlock,
    AttachTool,
    ChangeAgent,
    CreateAgent,
    DeleteAgent,
    DetachBlock,
    DetachTool,
    GateTool,
    agent,
)
from domain.errors import NotFound, Refused
from tests.examples import (
    AGENT_SETTINGS,
    BLOCK_ID,
    OTHER_BLOCK_ID,
    THIRD_BLOCK_ID,
    agent_created,
    agent_deleted,
    settings_of,
)
from tests.given import given, state_of

create = CreateAgent(AGENT_SETTINGS)
renamed = AgentChanged(name="Grace")
attached = AgentChanged(block_ids=(BLOCK_ID, OTHER_BLOCK_ID))


def test_an_agent_is_created_with_its_settings() -> None:
    given(agent).when(create).then(agent_created)


def test_an_agent_is_created_once() -> None:
    given(agent, agent_created).when(create).then_refused(Refused, saying="exists already")


def test_a_deleted_agent_is_not_created_again() -> None:
    given(agent, agent_created, agent_deleted).when(create).then_refused(Refused)


def test_an_agent_that_was_never_created_is_not_found() -> None:
    given(agent).when(ChangeAgent({"name": "Grace"})).then_refused(NotFound)
    given(agent).when(DeleteAgent()).then_refused(NotFound)


def test_a_deleted_agent_is_not_found() -> None:
    history = given(agent, agent_created, agent_deleted)
    history.when(ChangeAgent({"name": "Grace"})).then_refused(NotFound)
    history.when(AttachBlock(BLOCK_ID)).then_refused(NotFound)
    history.when(DetachBlock(BLOCK_ID)).then_refused(NotFound)
    history.when(DeleteAgent()).then_refused(NotFound)


def test_a_change_records_only_what_differs() -> None:
    asked = given(agent, agent_created).when(ChangeAgent({"name": "Grace", "system": ""}))
    asked.then(renamed)
    assert settings_of(asked.decided()[0]) == {"name"}


def test_a_change_to_what_is_already_so_changes_nothing() -> None:
    given(agent, agent_created, renamed).when(ChangeAgent({"name": "Grace"})).then_nothing_happens()


def test_a_setting_can_be_taken_back_to_nothing() -> None:
    described = AgentChanged(description="A person")
    asked = given(agent, agent_created, described).when(ChangeAgent({"description": None}))
    asked.then(AgentChanged(description=None))
    assert settings_of(asked.decided()[0]) == {"description"}


def test_a_change_to_nothing_empties_the_setting() -> None:
    described = AgentChanged(description="A person")
    state = state_of(agent, agent_created, described, AgentChanged(description=None))
    assert state.settings is not None
    assert state.settings.description is None


def test_a_block_is_attached_after_those_that_are_there() -> None:
    given(agent, agent_created).when(AttachBlock(OTHER_BLOCK_ID)).then(attached)


def test_the_newest_block_attached_again_changes_nothing() -> None:
    history = given(agent, agent_created, attached)
    history.when(AttachBlock(OTHER_BLOCK_ID)).then_nothing_happens()


def test_an_older_block_attached_again_moves_to_the_end() -> None:
    moved = AgentChanged(block_ids=(OTHER_BLOCK_ID, BLOCK_ID))
    given(agent, agent_created, attached).when(AttachBlock(BLOCK_ID)).then(moved)


def test_a_block_is_detached_and_the_others_keep_their_order() -> None:
    three = AgentChanged(block_ids=(BLOCK_ID, OTHER_BLOCK_ID, THIRD_BLOCK_ID))
    left = AgentChanged(block_ids=(BLOCK_ID, THIRD_BLOCK_ID))
    given(agent, agent_created, three).when(DetachBlock(OTHER_BLOCK_ID)).then(left)


def test_a_block_that_is_not_attached_cannot_be_detached() -> None:
    history = given(agent, agent_created)
    history.when(DetachBlock(OTHER_BLOCK_ID)).then_refused(NotFound, saying=OTHER_BLOCK_ID)


def test_an_agent_is_deleted() -> None:
    given(agent, agent_created).when(DeleteAgent()).then(agent_deleted)


def test_the_state_is_the_newest_settings_and_the_version_of_the_last_fact() -> None:
    state = state_of(agent, agent_created, renamed, attached)
    wanted = {"name": "Grace", "block_ids": (BLOCK_ID, OTHER_BLOCK_ID)}
    assert state.settings == AGENT_SETTINGS.model_copy(update=wanted)
    assert state.version == 3
    assert not state.deleted


def test_a_deleted_agent_keeps_what_it_was() -> None:
    state = state_of(agent, agent_created, agent_deleted)
    assert state.deleted
    assert state.settings == AGENT_SETTINGS
    assert state.version == 2


def test_a_change_to_what_was_never_created_is_folded_without_complaint() -> None:
    assert state_of(agent, renamed).settings is None


def test_a_created_agent_has_what_its_settings_say() -> None:
    assert state_of(agent, AgentCreated(settings=AGENT_SETTINGS)).settings == AGENT_SETTINGS


# --- tools ----------------------------------------------------------------------------------------

HAS_TOOLS = AgentChanged(tools=("a", "b"), approval_tools=("b",), terminal_tools=("b",))


def test_a_tool_is_attached_once() -> None:
    history = given(agent, agent_created, HAS_TOOLS)
    history.when(AttachTool("c")).then(AgentChanged(tools=("a", "b", "c")))
    history.when(AttachTool("a", gated=True)).then_nothing_happens()


def test_a_tool_may_need_approval_from_the_start() -> None:
    attached = AgentChanged(tools=("a", "b", "c"), approval_tools=("b", "c"))
    given(agent, agent_created, HAS_TOOLS).when(AttachTool("c", gated=True)).then(attached)


def test_an_agent_has_only_so_many_tools() -> None:
    full = AgentChanged(tools=tuple(f"tool_{n}" for n in range(TOOLS_MAX)))
    given(agent, agent_created, full).when(AttachTool("c")).then_refused(Refused, saying="128")


def test_a_tool_that_is_detached_takes_its_rules_along() -> None:
    history = given(agent, agent_created, HAS_TOOLS)
    detached = AgentChanged(tools=("a",), approval_tools=(), terminal_tools=())
    history.when(DetachTool("b")).then(detached)
    history.when(DetachTool("a")).then(AgentChanged(tools=("b",)))
    history.when(DetachTool("c")).then_refused(NotFound)


def test_a_tool_is_gated_and_freed_again() -> None:
    history = given(agent, agent_created, HAS_TOOLS)
    history.when(GateTool("a", gated=True)).then(AgentChanged(approval_tools=("b", "a")))
    history.when(GateTool("b", gated=False)).then(AgentChanged(approval_tools=()))
    history.when(GateTool("a", gated=False)).then_nothing_happens()


def test_a_merge_is_laid_over_the_settings_there_are_when_it_is_decided() -> None:
    def louder(now: AgentSettings) -> dict[str, str]:
        return {"name": now.name + "!"}

    renamed_twice = given(agent, agent_created, renamed).when(ChangeAgent({}, (louder, louder)))
    renamed_twice.then(AgentChanged(name="Grace!"))
    tagged = given(agent, agent_created).when(ChangeAgent({"tags": ("x",)}, (louder,)))
    assert settings_of(tagged.decided()[0]) == {"tags", "name"}
