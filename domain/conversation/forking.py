"""What a fork begins with: its parent's state at the offset of the fork, as far as it crosses.

Runs, messages that wait, open steps, keys and settings do not. Calls that wait for the client do.
"""

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

from domain.conversation.facts import Parent
from domain.conversation.records import Answered, Asked, Orphan
from domain.conversation.state import Conversation
from domain.conversation.window_state import WindowState
from domain.run import OpenCall, Span


def seed_of(state: Conversation, parent: Parent) -> Conversation:
    """Give the state in which a fork's first fact is decided; `state` is its parent's then.

    Its `orphans` are the calls of a run that was under way: nobody in the fork will carry them out.

    Its memory begins anew, so only what is said in the fork is consolidated there. What its parent
    had not come to by then is left to the parent, which stores it in the archive of the same agent:
    each fork that did so as well would store it once more. A parent that is deleted before then
    takes that with it; the messages are the fork's nevertheless, to be seen and searched.
    """
    runs = state.runs.values()
    return Conversation(
        asked=None if state.asked is None else _asked(state.asked, parent.at),
        answered=tuple(_answered(state.answered, frozenset(state.runs))),
        last_turn=state.last_turn,
        window=_window(state.window, parent.at),
        lineage=state.lineage.forked(parent),
        orphans=tuple(
            Orphan(run.run_id, call) for run in runs for call in _calls(run.calls, parent.at)
        ),
    )


def _asked(asked: Asked, at: int) -> Asked:
    return replace(asked, calls=_calls(asked.calls, at))


def _calls(calls: tuple[OpenCall, ...], at: int) -> tuple[OpenCall, ...]:
    return tuple(replace(call, s=call.s - at) for call in calls)


def _answered(answered: Iterable[Answered], under_way: frozenset[str]) -> Iterable[Answered]:
    """Give the answers after which nothing came: the fork's client may send them again to go on.

    Of the others the run is the parent's, and the fork has nothing to show of it.
    """
    for one in answered:
        if one.failed or one.run_id in under_way:
            yield replace(one, failed=True)


def _window(window: WindowState, at: int) -> WindowState:
    compactions = {
        key: replace(
            one,
            at=one.at - at,
            ranges=tuple(Span(first=r.first - at, last=r.last - at) for r in one.ranges),
        )
        for key, one in window.compactions.items()
    }
    return WindowState(
        compactions=MappingProxyType(compactions),
        pinned=window.pinned,
        changed_at=window.changed_at - at,
    )
