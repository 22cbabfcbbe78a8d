"""A conversation that was exported, imported and exported again is the same one."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.agent_files.importing import spelled_out
from app.agent_files.windows import Evicting, eviction_of
from app.providers.catalogue import Catalogue, ProviderSettings
from domain.agent import AgentSettings
from domain.compaction import PERCENTAGE_DEFAULT
from domain.conversation import ImportMessages, conversation
from domain.event import Recorded
from domain.streams import MESSAGE, RUN, derived_id
from projections.agent_file import FileMessage
from projections.agent_file_parts import LeftOut
from projections.agent_file_reading import Told, told_by
from projections.agent_file_writing import Messages
from projections.listing import unlisted
from projections.window import window_of
from tests.examples import AT, CONVERSATION_ID, start
from tests.projections.compacted import compacted_histories
from tests.projections.histories import Facts, histories

AGENT = AgentSettings(name="guide", model="demo/echo")
RESOLVED = Catalogue(ProviderSettings()).resolve("demo/echo")


def exported(facts: Facts) -> tuple[list[dict[str, Any]], list[str]]:
    messages = Messages(window_of(facts), unlisted(facts))
    for fact in facts:
        messages.add(fact)
    return messages.written(0)


def told_in(file: tuple[list[dict[str, Any]], list[str]]) -> Told:
    left_out = LeftOut()
    told = told_by([FileMessage.model_validate(one) for one in file[0]], file[1], "", left_out)
    unreturned = [one for one in left_out.told if "no return" in one]
    assert left_out.told == unreturned
    return told


def imported(told: Told) -> Facts:
    state, facts = conversation.initial, list[Recorded[Any]]()

    def do(command: Any) -> None:
        nonlocal state
        for event in conversation.decide(state, command):
            fact = Recorded(CONVERSATION_ID, len(facts) + 1, AT, "import", event)
            facts.append(fact)
            state = conversation.evolve(state, event, fact.version)

    do(start)
    ids: list[str] = []
    for n, said in enumerate(told.said):
        run_id = derived_id(RUN, str(n))
        do(ImportMessages(run_id, f"import:{n}", str(hash(spelled_out(said))), (said,)))
        ids.append(derived_id(MESSAGE, f"{run_id}/0"))
    if told.evicted:
        evicting = Evicting(CONVERSATION_ID, told, ids, AGENT, RESOLVED)
        do(eviction_of(window_of(facts), evicting, PERCENTAGE_DEFAULT))
    return facts


def normal(file: tuple[list[dict[str, Any]], list[str]]) -> Any:
    """Leave out the prompt, and otids that follow from ids of messages; users' own stay."""
    messages, inside = file
    return [one | ({} if _is_of_user(one) else {"otid": None}) for one in messages[1:]], inside


def _is_of_user(message: dict[str, Any]) -> bool:
    return message["role"] == "user" and "system_alert" not in str(message["content"])


@settings(max_examples=25, deadline=None)
@given(st.one_of(histories(), compacted_histories()))
def test_what_is_exported_loads_and_is_exported_as_the_same_again(facts: Facts) -> None:
    first = exported(facts)
    told = told_in(first)
    taken = imported(told)
    second = exported(taken)
    third = exported(imported(told_in(second)))
    assert normal(third) == normal(second)
    if not told.unreturned:
        assert normal(second) == normal(first)
    window = window_of(taken)
    assert window.pending == ()
    summaries = [item for item in window.items if item.message_id == _summary_id()]
    assert len(summaries) == bool(told.summary)


def _summary_id() -> str:
    return derived_id(MESSAGE, f"{CONVERSATION_ID}/import/summary")
