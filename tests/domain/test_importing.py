"""How what was said elsewhere is taken in: whole, once, and with a return for every call."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from domain.conversation import (
    IMPORTED_MESSAGES_MAX,
    ConversationEvent,
    DeleteConversation,
    ImportMessages,
    MessageAppended,
    SaidMessage,
    SaidReply,
    SaidReturn,
    conversation,
    messages_in,
)
from domain.conversation.importing import NO_RETURN
from domain.errors import Busy, Full, KeyReused, NotFound, Unasked, Waiting
from domain.run import (
    CalledTool,
    RunClaimed,
    RunFinished,
    RunQueued,
    StepFinished,
    StepPart,
    StepStarted,
    ToolFinished,
)
from projections.window import ReturnItem, StepItem, window_of
from tests.domain.running import Stream, Worker, begun
from tests.domain.test_properties_runs import check
from tests.examples import (
    NEXT_RUN_ID,
    RUN_ID,
    appended,
    claimed,
    deleted,
    finished,
    part,
    queued,
    renamed,
    started,
    step_finished,
    step_started,
)
from tests.given import given
from tests.projections.histories import recorded

LONG_AGO = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
hello = SaidMessage("user", "Hello!", LONG_AGO)
answer = SaidMessage("assistant", "Hello to you.")


def text(words: str, i: int = 0) -> StepPart:
    return StepPart(s=0, i=i, kind="text", text=words)


def call(name: str, i: int = 0) -> StepPart:
    return StepPart(s=0, i=i, kind="call", call=CalledTool(id=name, name="weather", arguments="{}"))


def importing(*said: Any, run_id: str = RUN_ID, key: str = "import:0", body: str = "b") -> Any:
    return ImportMessages(run_id, key, body, said)


def facts_of(*said: Any) -> list[ConversationEvent]:
    return given(conversation, started).when(importing(*said)).decided()


def of_kind(facts: list[ConversationEvent], kind: type[Any]) -> list[Any]:
    return [fact for fact in facts if isinstance(fact, kind)]


def test_messages_become_a_run_that_is_over_in_the_same_append() -> None:
    first, *entered, last = facts_of(hello, answer)
    assert isinstance(first, RunQueued)
    assert (first.run_id, first.keys, first.body_hash) == (RUN_ID, ("import:0",), "b")
    assert [one.role for one in of_kind(entered, MessageAppended)] == ["user", "assistant"]
    assert len(entered) == 2
    assert isinstance(last, RunFinished)
    assert (last.status, last.stop_reason, last.epoch) == ("completed", "end_turn", None)


def test_when_something_was_said_is_kept_where_it_is_known() -> None:
    known, unknown = of_kind(facts_of(hello, answer), MessageAppended)
    assert known.said_at == LONG_AGO
    assert "said_at" not in unknown.model_fields_set


def test_a_reply_that_calls_is_a_step_of_nobodys_model_without_a_request() -> None:
    reply = SaidReply((text("I look."), call("c1", 1)), (SaidReturn("c1", "20 °C"),))
    facts = facts_of(hello, reply, answer)
    assert [type(fact) for fact in facts] == [
        RunQueued,
        RunClaimed,
        MessageAppended,
        StepStarted,
        StepPart,
        StepPart,
        StepFinished,
        ToolFinished,
        MessageAppended,
        RunFinished,
    ]
    [claim], [step] = of_kind(facts, RunClaimed), of_kind(facts, StepStarted)
    assert (claim.node, claim.epoch, step.epoch) == ("import", 1, 1)
    assert (step.model, step.manifest.renderer, step.manifest.sha256) == ("import", "none", "")
    # `started` is at offset 1.
    at = 1 + facts.index(step) + 1
    assert {one.s for one in of_kind(facts, StepPart)} == {at}
    assert of_kind(facts, ToolFinished)[0].s == at
    assert of_kind(facts, RunFinished)[0].usage.step_count == 1


def test_steps_find_their_place_behind_whatever_was_there_before() -> None:
    reply = SaidReply((call("c1"),), (SaidReturn("c1", "20 °C"),))
    before = (started, queued(), appended(), claimed(), step_started(), part(), step_finished())
    history = (*before, finished(), renamed)
    facts = given(conversation, *history).when(importing(reply, run_id=NEXT_RUN_ID)).decided()
    window = window_of(recorded(*history, *facts))
    assert [type(item).__name__ for item in window.items[2:]] == ["StepItem", "ReturnItem"]
    assert window.pending == ()


def test_a_call_without_a_return_is_closed_as_unknown() -> None:
    reply = SaidReply((call("c1"), call("c2", 1)), (SaidReturn("c2", "20 °C", "error", LONG_AGO),))
    first, second = of_kind(facts_of(reply), ToolFinished)
    assert (first.tool_call_id, first.status, first.content) == ("c1", "unknown", NO_RETURN)
    assert (second.tool_call_id, second.status, second.said_at) == ("c2", "error", LONG_AGO)


def test_an_interrupted_reply_has_no_calls_to_answer() -> None:
    facts = facts_of(SaidReply((text("I lo"), call("c1", 1)), interrupted=True))
    assert of_kind(facts, StepFinished)[0].outcome == "interrupted"
    assert all(one.interrupted for one in of_kind(facts, StepPart))
    assert of_kind(facts, ToolFinished) == []


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (SaidReply((call("c1"),), (SaidReturn("c2", ""),)), "c2 returns, but is no call"),
        (SaidReply((call("c1"), call("c1", 1))), "c1 is called more than once"),
        (SaidReply((call("c1"),), (SaidReturn("c1", ""), SaidReturn("c1", ""))), "c1 returns more"),
        (SaidReply((call("c1"),), (SaidReturn("c1", ""),), interrupted=True), "is no call"),
    ],
    ids=["a stranger", "called twice", "returned twice", "broken off"],
)
def test_a_return_that_fits_no_call_is_refused(reply: SaidReply, words: str) -> None:
    given(conversation, started).when(importing(reply)).then_refused(Unasked, saying=words)


def test_one_import_takes_so_many_messages_and_no_more() -> None:
    reply = SaidReply(tuple(call(f"c{i}", i) for i in range(IMPORTED_MESSAGES_MAX)))
    most = importing(*[hello] * IMPORTED_MESSAGES_MAX)
    assert given(conversation, started).when(most).decided()
    more = importing(*most.said, answer)
    given(conversation, started).when(more).then_refused(Full, saying="257 messages")
    given(conversation, started).when(importing(reply)).then_refused(Full, saying="257 messages")


def test_the_same_batch_again_is_nothing_new() -> None:
    history = (started, *facts_of(hello))
    given(conversation, *history).when(importing(hello)).then_nothing_happens()


def test_another_batch_under_the_same_key_is_refused() -> None:
    history = (started, *facts_of(hello))
    given(conversation, *history).when(importing(answer, body="c")).then_refused(KeyReused)


def test_nothing_is_brought_in_while_a_run_is_under_way() -> None:
    busy = (started, queued(NEXT_RUN_ID), appended(NEXT_RUN_ID))
    given(conversation, *busy).when(importing(hello)).then_refused(Busy)


def test_nothing_is_brought_in_while_calls_wait_for_the_client() -> None:
    stream = begun()
    worker = waiting_for_the_client(stream)
    assert worker.view.asked is not None
    with pytest.raises(Waiting):
        stream.do(importing(hello, run_id=NEXT_RUN_ID))


def waiting_for_the_client(stream: Stream) -> Worker:
    stream.do(stream.request("reject", (), "words", tools=True))
    worker = Worker("node-1", 0, stream)
    worker.look()
    while stream.state.runs:
        worker.act("gated")
    return worker


def test_nothing_is_brought_into_what_is_deleted_or_never_began() -> None:
    given(conversation, started, deleted).when(importing(hello)).then_refused(NotFound)
    given(conversation).when(importing(hello)).then_refused(NotFound)


# --- any import among any runs -------------------------------------------------------------------

WORDS = st.text(max_size=5)
MESSAGES = st.builds(
    SaidMessage, st.sampled_from(("user", "system", "assistant")), WORDS, st.sampled_from([None])
)


@st.composite
def replies(draw: st.DrawFn) -> SaidReply:
    names = draw(st.lists(st.sampled_from("abcd"), unique=True))
    texts = draw(st.lists(WORDS, max_size=2))
    parts = [*(text(one) for one in texts), *(call(name) for name in names)]
    returned = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    cut = draw(st.booleans())
    returns = () if cut else tuple(SaidReturn(name, draw(WORDS)) for name in returned)
    return SaidReply(tuple(draw(st.permutations(parts))), returns, cut)


BATCHES = st.lists(MESSAGES | replies(), max_size=6)
REPLIES = ("say", "end", "server", "once", "both", "gated")


@settings(deadline=None)
@for_all(
    batches=st.lists(BATCHES, min_size=1, max_size=3),
    turns=st.lists(st.sampled_from(REPLIES), max_size=12),
)
def test_imports_among_runs_keep_all_that_always_holds(
    batches: list[list[Any]], turns: list[str]
) -> None:
    stream = begun()
    worker = Worker("node-1", 0, stream)
    for number, said in enumerate(batches):
        before = len(stream.facts)
        command = importing(*said, run_id=stream.new("run"), key=f"import:{number}")
        try:
            stream.do(command)
        except (Busy, Waiting):
            assert stream.state.runs or stream.state.asked
            assert len(stream.facts) == before
        else:
            check_taken(stream, said, before)
            assert stream.do(replace(command, run_id=stream.new("run"))) == []
        check(stream)
        stream.do(stream.request("enqueue", (), "words", tools=True)) if number % 2 else None
        for reply in turns:
            worker.look()
            worker.act(reply)
            check(stream)
    assert stream.state.runs or stream.state.version == len(stream.facts)
    stream.do(DeleteConversation())
    assert (stream.folded(), stream.folded().version) == (stream.state, stream.state.version)


def check_taken(stream: Stream, said: list[Any], before: int) -> None:
    """All of it is in the window, each call with its return, and nothing is left open."""
    items = [one for one in window_of(stream.facts).items if one.offset > before]
    silent = sum(isinstance(one, SaidReply) and not one.parts for one in said)
    assert len(items) == sum(map(messages_in, said)) - silent
    assert not stream.state.runs
    for place, item in enumerate(items):
        if isinstance(item, StepItem) and not item.interrupted:
            calls = [part.call.id for part in item.parts if part.call is not None]
            returns = items[place + 1 : place + 1 + len(calls)]
            names = [one.tool_call_id for one in returns if isinstance(one, ReturnItem)]
            assert names == calls
