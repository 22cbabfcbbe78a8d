"""What was said is found in many conversations at once, on every engine alike."""

from uuid import uuid4

from app.log import Log
from app.recall.search import Search
from app.recall.search_across import STREAMS_MIN, SearchAcross
from app.storage.store import Store
from domain.archive import PassageInserted
from domain.event import Event
from domain.streams import ARCHIVE, PASSAGE, id_of
from projections.search_answers import Only
from projections.search_ranks import Mention
from tests.app.test_search import OTHER, STREAM, message, stored

TALK = (
    "I adopted a puppy at the lake.",
    "What breed is it?",
    "A small one, brown and quick.",
    "It rains today.",
    "The puppy sleeps by the stove.",
    "Bring soup, please.",
    "A hat and a lantern.",
)


async def mentions(
    store: Store, terms: str, streams: list[str] | None, limit: int = 9
) -> list[Mention]:
    (found,) = store.mentions([terms], streams, limit=limit)
    return found


async def test_texts_with_a_term_are_named_with_their_conversation(log: Log) -> None:
    await stored(log, "a lantern", "a candle", "a lantern and a candle")
    await stored(log, "a lantern", stream=OTHER)
    store = log.store
    everywhere = {(one.stream, one.version) for one in await mentions(store, "lantern", None)}
    assert everywhere == {(STREAM, 2), (STREAM, 4), (OTHER, 2)}
    both = await mentions(store, "lantern candl", [STREAM, OTHER])
    assert [(one.stream, one.version) for one in both] == [(STREAM, 4)]
    assert [one.version for one in await mentions(store, "lantern", [STREAM])] == [4, 2]
    assert [one.version for one in await mentions(store, "lantern", [STREAM], limit=1)] == [4]
    assert await mentions(store, "lantern", []) == []
    assert store.mentions([], None, limit=9) == []


async def test_one_conversation_is_ranked_as_by_its_own_search(log: Log) -> None:
    await stored(log, *TALK)
    await stored(log, "A puppy of another conversation.", stream=OTHER)
    for query in ("puppy", "puppy lake", '"small one"', "the soup and the hat", "nobody said it"):
        alone = await Search(log).find(STREAM, query)
        among = await SearchAcross(log).find(query, [STREAM], limit=10)
        # A word that nobody said is taken for another one in a conversation's own search alone.
        assert alone.corrections == ()
        assert [one.offset for one in among] == [one.place for one in alone.hits], query
        assert [one.excerpt for one in among] == [one.text for one in alone.hits], query


async def test_the_end_of_one_conversation_is_no_neighbour_of_the_next(log: Log) -> None:
    await stored(log, "It rains today.", "A puppy.")
    await stored(log, "The stove is warm.", "A puppy.", "It rains.", stream=OTHER)
    found = await SearchAcross(log).find("puppy", limit=10)
    assert [one.text for one in found][:2] == ["A puppy.", "A puppy."]
    near = {(one.conversation_id, one.text) for one in found[2:]}
    assert near == {
        (STREAM, "It rains today."),
        (OTHER, "The stove is warm."),
        (OTHER, "It rains."),
    }


async def test_only_words_of_the_wanted_roles_are_given(log: Log) -> None:
    facts: list[Event] = [message("a lantern", 1), message("a lantern", 2, "assistant")]
    await stored(log, *facts)
    only = Only(frozenset({"assistant"}))
    (found,) = await SearchAcross(log).find("lantern", limit=10, only=only)
    assert (found.offset, found.role, found.text) == (3, "assistant", "a lantern")


async def test_what_is_kept_in_archives_takes_no_conversations_place(log: Log) -> None:
    for _ in range(STREAMS_MIN):
        kept = PassageInserted(passage_id=id_of(PASSAGE, uuid4()), text="lantern")
        await log.append(id_of(ARCHIVE, uuid4()), 0, [kept], "user")
    await stored(log, "Somewhere I have left a lantern, and I do not remember where.")
    (found,) = await SearchAcross(log).find("lantern", limit=10)
    assert (found.conversation_id, found.offset) == (STREAM, 2)
