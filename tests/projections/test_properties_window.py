"""What holds for every history that the domain allows."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import orjson
from hypothesis import given, settings

from domain.event import Recorded
from domain.run import (
    RunFinished,
    RunRequest,
    StepDelta,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    ToolFinished,
)
from domain.streams import otid_of
from projections.answer import messages_of_run
from projections.frames import DONE, Frames, Sent, superseded_of
from projections.items import ReturnItem
from projections.letta import only
from projections.listing import unlisted
from projections.window import Window, evolve, window_of
from tests.projections.histories import Facts, histories, run_ids_of, stored


def for_every_history(test: Callable[[Facts], None]) -> Callable[[], None]:
    return settings(max_examples=40, deadline=None)(given(histories())(test))


def request_of(facts: Facts, run_id: str) -> RunRequest:
    return next(
        fact.event.request
        for fact in facts
        if fact.event.type == "run.queued" and fact.event.run_id == run_id
    )


def sent_of(facts: Iterable[Recorded[Any]], frames: Frames) -> list[tuple[int, Sent]]:
    """Feed facts until the run is over; give what each has sent."""
    sent: list[tuple[int, Sent]] = []
    for fact in facts:
        one = frames.of(fact)
        if one is not None:
            sent.append((fact.version, one))
            if one.end:
                break
    return sent


def seen_live(facts: Facts, run_id: str) -> list[tuple[int, Sent]]:
    return sent_of(facts, Frames(run_id))


def seen_later(facts: Facts, run_id: str) -> list[tuple[int, Sent]]:
    return sent_of(facts, Frames(run_id, superseded_of(facts)))


def data_of(sent: Sent) -> list[dict[str, Any]]:
    """Parse what was sent, the end mark aside."""
    blocks = sent.data.removesuffix(DONE).decode().split("\n\n")
    return [orjson.loads(block.split("data: ", 1)[1]) for block in blocks if block]


WORDS = {
    "assistant_message": ("content",),
    "reasoning_message": ("reasoning", "signature"),
    "hidden_reasoning_message": ("hidden_reasoning",),
}


def words_of(message: dict[str, Any]) -> dict[str, str]:
    """Give the texts of a message that grow in a token stream."""
    kind = message["message_type"]
    if kind == "tool_call_message":
        call = message["tool_call"]
        return {name: call[name] or "" for name in ("name", "arguments")}
    return {name: message[name] or "" for name in WORDS[kind]}


def joined(messages: Iterable[Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Join messages by id and otid, as clients do."""
    whole: dict[tuple[str, str], dict[str, Any]] = {}
    for message in messages:
        if message["message_type"] not in {*WORDS, "tool_call_message"}:
            continue
        same = {key: message[key] for key in ("message_type", "date", "run_id", "step_id")}
        grown = whole.setdefault((message["id"], message["otid"]), same | defaultdict(str))
        assert same.items() <= grown.items()
        for name, words in words_of(message).items():
            grown[name] = grown.get(name, "") + words
    return whole


def listed_of(facts: Facts, run_id: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Give what the history holds of a run's output, of the types that it was asked for."""
    items = [
        item
        for items in messages_of_run(facts, run_id)
        for item in items
        if item["step_id"] is not None
    ]
    return joined(only(items, request_of(facts, run_id).filters))


def lost_ids(facts: Facts) -> set[str]:
    """Name the messages of steps that count for nothing: superseded, failed or not over."""
    steps = {one.version: one.event.message_id for one in facts if _is(one, StepStarted)}
    ended = [one.event for one in facts if _is(one, StepFinished)]
    kept = {event.s for event in ended if event.outcome != "failed"}
    return {message_id for s, message_id in steps.items() if s not in kept}


def half_calls(facts: Facts) -> set[tuple[str, str]]:
    """Name the calls that broke off with their step: streamed by the token, but never listed."""
    ids = {one.version: one.event.message_id for one in facts if _is(one, StepStarted)}
    parts = (one.event for one in facts if _is(one, StepPart))
    return {
        (ids[part.s], otid_of(ids[part.s], part.i))
        for part in parts
        if part.interrupted and part.call is not None
    }


def _is(fact: Recorded[Any], kind: type) -> bool:
    return isinstance(fact.event, kind)


@for_every_history
def test_the_window_at_any_offset_is_the_fold_of_what_is_stored_up_to_it(facts: Facts) -> None:
    live, revived = Window(), stored(facts)
    for count, fact in enumerate(facts, start=1):
        live = evolve(live, fact)
        assert window_of(revived[:count]) == live


@for_every_history
def test_the_window_needs_no_deltas(facts: Facts) -> None:
    without = window_of(fact for fact in facts if not _is(fact, StepDelta))
    assert replace(without, at=len(facts)) == window_of(facts)


@for_every_history
def test_every_fact_comes_back_from_storage_as_it_was(facts: Facts) -> None:
    assert stored(facts) == facts


@for_every_history
def test_a_window_holds_messages_that_entered_and_steps_that_ended_and_no_others(
    facts: Facts,
) -> None:
    window = window_of(facts)
    entered = {one.event.message_id for one in facts if one.event.type == "message.appended"}
    steps = {one.event.message_id for one in facts if _is(one, StepStarted)} - lost_ids(facts)
    parts = {one.event.s for one in facts if _is(one, StepPart)}
    silent = {
        one.event.message_id for one in facts if _is(one, StepStarted) and one.version not in parts
    }
    returned = {one.event.message_id for one in facts if _is(one, ToolFinished)}
    items = window.items
    whole = entered | returned | (steps - silent)
    assert {item.message_id for item in items} == whole - unlisted(facts)
    others = [item.offset for item in items if not isinstance(item, ReturnItem)]
    assert others == sorted(others)


@for_every_history
def test_the_deltas_of_a_step_that_ended_joined_are_its_parts(facts: Facts) -> None:
    kept = {
        one.event.s for one in facts if _is(one, StepFinished) and one.event.outcome != "failed"
    }
    grown: dict[tuple[int, int], str] = defaultdict(str)
    for fact in facts:
        if isinstance(fact.event, StepDelta) and fact.event.s in kept:
            grown[fact.event.s, fact.event.i] += fact.event.x
    whole = {
        (part.s, part.i): (part.call.arguments if part.call else part.text or "")
        + (part.signature or "")
        for part in (fact.event for fact in facts)
        if isinstance(part, StepPart)
    }
    assert whole == grown


@for_every_history
def test_what_was_streamed_joined_by_id_is_what_the_history_lists(facts: Facts) -> None:
    for run_id in run_ids_of(facts):
        listed, lost = listed_of(facts, run_id), lost_ids(facts)
        for sent in (seen_live(facts, run_id), seen_later(facts, run_id)):
            streamed = joined(frame for _, one in sent for frame in data_of(one) if "id" in frame)
            assert {key: streamed[key] for key in listed if key in streamed} == listed
            unlisted = streamed.keys() - listed.keys() - half_calls(facts)
            assert {key[0] for key in unlisted} <= lost


@for_every_history
def test_a_later_reader_gets_nothing_of_what_a_superseded_step_had_said(facts: Facts) -> None:
    gone = {
        one.event.message_id
        for one in facts
        if _is(one, StepStarted) and one.version in superseded_of(facts)
    }
    for run_id in run_ids_of(facts):
        frames = [frame for _, one in seen_later(facts, run_id) for frame in data_of(one)]
        assert gone.isdisjoint(frame.get("id") for frame in frames)


@for_every_history
def test_a_resume_at_any_cut_gets_the_frames_after_it_byte_for_byte(facts: Facts) -> None:
    skipped = superseded_of(facts)
    for run_id in run_ids_of(facts):
        whole = [
            (version, sent.data)
            for version, sent in seen_live(facts, run_id)
            if not (_is(facts[version - 1], StepDelta) and facts[version - 1].event.s in skipped)
        ]
        for cut in range(len(facts) + 1):
            frames = Frames(run_id, superseded_of(facts))
            over = any(one.end for _, one in sent_of(facts[:cut], frames))
            resumed = [] if over else sent_of(facts[cut:], frames)
            expected = [(version, data) for version, data in whole if version > cut]
            assert [(version, sent.data) for version, sent in resumed] == expected


@for_every_history
def test_a_run_that_goes_on_while_it_is_read_tells_live_what_it_tells_later(facts: Facts) -> None:
    """A reader that came before a step was superseded sees it, and is told that it is void."""
    for run_id in run_ids_of(facts):
        request = request_of(facts, run_id)
        told = request.stream_tokens and (
            request.filters is None or "event_message" in request.filters
        )
        own = {one.version for one in facts if _is(one, StepStarted) and one.event.run_id == run_id}
        lost = [one.version for one in facts if _is(one, StepSuperseded) and one.event.s in own]
        retries = [
            version
            for version, sent in seen_live(facts, run_id)
            if data_of(sent)[0].get("event_type") == "retry"
        ]
        assert retries == (lost if told else [])


@for_every_history
def test_a_number_is_the_offset_of_the_one_fact_that_it_stands_for(facts: Facts) -> None:
    for run_id in run_ids_of(facts):
        for version, sent in seen_live(facts, run_id):
            frames = data_of(sent)
            numbers = [frame["seq_id"] for frame in frames if frame.get("seq_id") is not None]
            assert numbers == ([] if sent.end else [version])
            assert sent.seq_id == (None if sent.end else version)


@for_every_history
def test_a_run_ends_at_most_once_and_a_deleted_conversation_can_end_all_of_its_runs(
    facts: Facts,
) -> None:
    ended = [one.event.run_id for one in facts if _is(one, RunFinished)]
    assert len(ended) == len(set(ended))
    assert set(ended) <= set(run_ids_of(facts))
