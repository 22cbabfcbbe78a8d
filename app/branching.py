"""Where a fork leaves its parent if a message is named: after it, with whatever belongs to it.

A reply goes with the returns of its calls, in whichever order they came; while its calls wait for the
client, with the end of its run, so that they wait in the fork as well. Blocks, so it runs in a
reader's thread.
"""

from collections.abc import Iterator
from typing import Any

from app.storage.lineages import Chain, parent_at
from app.storage.store import Store
from domain.conversation import MessageAppended, MessageQueued, Parent, WindowCompacted
from domain.errors import NotFound, Refused
from domain.event import Recorded
from domain.run import RunFinished, StepFinished, StepPart, StepStarted, ToolFinished
from domain.streams import system_message_id
from projections.patches import CALL

READ_AT_ONCE = 100


def parent_after(store: Store, stream: str, message_id: str) -> Parent:
    """Give the offset after which a fork has a message of a conversation and nothing later.

    It is an ancestor's for a message that was inherited. Raises NotFound, or Refused for a message
    that has not come into the window.
    """
    chain = Chain.of(store, stream)
    if message_id == system_message_id(stream):
        # Nothing but the prompt, of which every fork has its own.
        ancestors = chain.lineage.ancestors
        return parent_at(store, ancestors[0].stream if ancestors else stream, 1)
    places = chain.located([message_id]).get(message_id)
    if not places:
        raise NotFound("Message", message_id)
    owner, offset = chain.lineage.named(_last_of(chain, places[-1], message_id))
    return parent_at(store, owner or stream, offset)


def _last_of(chain: Chain, place: int, message_id: str) -> int:
    """Give the place of the last fact that belongs to the message at a place."""
    event = chain.fact(chain.at(place)).event
    match event:
        case MessageAppended(approvals=answers) if answers:
            names = [f"{CALL}{answers[0]['tool_call_id']}"]
            calls = [one for found in chain.located(names).values() for one in found]
            before = [one for one in calls if one < place]
            return _last_of(chain, before[-1], message_id) if before else place
        case MessageAppended() | WindowCompacted():
            return place
        case StepStarted():
            return _end_of(chain, place, event, message_id)
        case ToolFinished() | StepPart():
            return _last_of(chain, event.s, message_id)
        case MessageQueued():
            raise Refused(f"{message_id} waits for its run: it is not in the window yet.")
        case _:
            raise NotFound("Message", message_id)


def _end_of(chain: Chain, s: int, started: StepStarted, message_id: str) -> int:
    """Give where the step at a place has ended, with all of its calls or with its run."""
    ended: int | None = None
    returned = s
    open_calls: set[str] = set()
    for fact in _facts_after(chain, s):
        match fact.event:
            case StepPart(call=call) as event if event.s == s and call is not None:
                open_calls.add(call.id)
            case StepFinished(outcome=outcome) as event if event.s == s:
                ended = fact.version
                open_calls = open_calls if outcome == "ok" else set()
            case ToolFinished() as event if event.s == s:
                open_calls.discard(event.tool_call_id)
                returned = fact.version
            case RunFinished(run_id=run_id) if run_id == started.run_id and ended is not None:
                returned = fact.version
            case _:
                pass
        if ended is not None and not open_calls:
            break
    if ended is None:
        raise Refused(f"{message_id} is a reply that has not come to an end.")
    return max(ended, returned)


def _facts_after(chain: Chain, place: int) -> Iterator[Recorded[Any]]:
    while rows := chain.read(after=place, limit=READ_AT_ONCE):
        yield from map(chain.fact, rows)
        place = chain.place(rows[-1])
