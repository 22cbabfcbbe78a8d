"""When something was in the window: told by the marks alone, as the window itself would tell it."""

from hypothesis import given

from projections.items import StepItem
from projections.why import Stay, Thing, timeline_of
from projections.window import window_of
from tests.talks import Talk, message_id_of, talks


def thing(offset: int, entered_at: int | None = None) -> Thing:
    return Thing(offset, message_id_of(offset), entered_at or offset)


def stays(talk: Talk, offset: int) -> tuple[Stay, ...]:
    return timeline_of(talk.facts).stays(thing(offset))


# --- by example -------------------------------------------------------------------------------


def test_what_was_said_is_in_the_window_from_then_on() -> None:
    talk = Talk()
    offset = talk.say("Tea!")
    assert stays(talk, offset) == (Stay(entered_at=offset),)


def test_a_reply_is_in_the_window_when_it_is_whole() -> None:
    talk = Talk()
    s = talk.reply("Tea", "with Ana")
    end = s + 3
    (stay,) = timeline_of(talk.facts).stays(thing(s, end))
    assert stay.entered_at == end
    assert isinstance(talk.window.items[0], StepItem)


def test_each_compaction_undo_and_redo_is_a_turning_point() -> None:
    talk = Talk()
    offset = talk.say("Tea!")
    talk.say("Soup.")
    compaction_id = talk.compact(offset, offset, "Nothing.")
    compacted_at = len(talk.events)
    undone_at, redone_at = talk.undo(compaction_id), talk.redo(compaction_id)
    assert stays(talk, offset) == (
        Stay(
            entered_at=offset,
            left_at=compacted_at,
            taken_by="compacted",
            taken_by_compaction=compaction_id,
        ),
        Stay(
            entered_at=undone_at,
            brought_by="undone",
            brought_by_compaction=compaction_id,
            left_at=redone_at,
            taken_by="redone",
            taken_by_compaction=compaction_id,
        ),
    )


def test_a_rollback_hides_a_turn_and_brings_back_what_it_had_compacted() -> None:
    talk = Talk()
    first, second = talk.say("Tea!"), talk.say("Soup.")
    compaction_id = talk.compact(first, first, "Nothing.")
    compacted_at = len(talk.events)
    rolled_back_at = talk.roll_back(second, compaction_ids=[compaction_id])
    before, after = stays(talk, first)
    assert (before.left_at, before.taken_by) == (compacted_at, "compacted")
    assert (after.entered_at, after.brought_by, after.left_at) == (
        rolled_back_at,
        "rolled_back",
        None,
    )
    (hidden,) = stays(talk, second)
    assert (hidden.left_at, hidden.taken_by, hidden.taken_by_compaction) == (
        rolled_back_at,
        "rolled_back",
        None,
    )


def test_a_chain_goes_from_summary_to_summary() -> None:
    talk = Talk()
    offset = talk.say("Tea!")
    talk.say("Soup.")
    first = talk.compact(offset, offset, "Tea.")
    first_at = len(talk.events)
    second = talk.compact(offset + 1, first_at, "Tea and soup.")
    timeline = timeline_of(talk.facts)
    ids = [one.fact.event.compaction_id for one in timeline.chain(offset)]
    assert ids == [first, second]
    assert timeline.chain(len(talk.events)) == ()


# --- as the window tells it -------------------------------------------------------------------


@given(talks())
def test_something_is_in_the_window_at_every_offset_of_its_stays_and_at_no_other(
    talk: Talk,
) -> None:
    facts = talk.facts
    timeline = timeline_of(facts)
    entered: dict[int, tuple[str, int]] = {}
    seen: dict[int, set[int]] = {}
    for at in range(1, len(facts) + 1):
        for item in window_of(facts[:at]).items:
            entered.setdefault(item.offset, (item.message_id, at))
            seen.setdefault(item.offset, set()).add(at)
    own = {one.fact.version: key for key, one in timeline.marks.compactions.items()}
    for place, (message_id, entered_at) in entered.items():
        it = Thing(place, message_id, entered_at, own.get(place))
        told = {
            at
            for stay in timeline.stays(it)
            for at in range(stay.entered_at, stay.left_at or len(facts) + 1)
        }
        assert told == seen[place], place
        assert timeline.visible(it) == (len(facts) in seen[place])
