"""The audit's answers as lines in a terminal. What was said in them was written by anybody."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from app.commands.lines import TEXT_CHARACTERS_MAX, printable

Json: TypeAlias = dict[str, Any]

OFFSET_WIDTH: Final = 6
ROLE_WIDTH: Final = 9
LOST_SHOWN: Final = 10
REACHABLE: Final = {
    "window": "the model sees it",
    "summary": "the model sees it in a summary",
    "search": "the model can find it with conversation_search or recall",
    "log": "it is in the log alone: events and exports have it, the model's tools do not",
}


def short(text: object) -> str:
    """Give a text as one line that is not too long."""
    words = " ".join(printable(str(text)).split())
    return words if len(words) <= TEXT_CHARACTERS_MAX else f"{words[:TEXT_CHARACTERS_MAX]}…"


def _at(moment: str) -> str:
    return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"


def _offset(offset: int | None) -> str:
    return f"{'' if offset is None else offset:>{OFFSET_WIDTH}}"


# --- why --------------------------------------------------------------------------------------


def why_lines(answer: Json) -> Iterator[str]:
    """Tell the verdict, then for each place what happened there, offset by offset."""
    yield printable(answer["sentence"])
    for one in answer["occurrences"]:
        yield ""
        yield from _occurrence_lines(one)
    hidden = answer["total"] - len(answer["occurrences"])
    if hidden > 0:
        yield ""
        yield f"and {hidden} more; --limit shows more of them"
    for one in answer["only_in_summaries"]:
        yield f"{_offset(one['offset'])}  a summary says it: {_words(one['words'])}"
    for one in answer["closest"]:
        yield f"{_offset(one['offset'])}  {one['role']:<{ROLE_WIDTH}} “{short(one['text'])}”"


def _occurrence_lines(one: Json) -> Iterator[str]:
    pinned = "  pinned" if one["pinned"] else ""
    yield (
        f"{_offset(one['offset'])}  {one['role']:<{ROLE_WIDTH}} “{short(one['text'])}”  "
        f"{_at(one['at'])}  {one['message_id']}{pinned}"
    )
    for stay in one["windows"]:
        if stay["brought_by"] != "said":
            yield _turn(stay["entered_at"], stay["brought_by"], stay["brought_by_compaction"])
        if stay["left_at"] is not None:
            yield _turn(stay["left_at"], stay["taken_by"], stay["taken_by_compaction"])
    if one["compaction"] is not None:
        yield from _evictor_lines(one["compaction"])
    yield from _summaries_lines(one)
    yield f"{'':>{OFFSET_WIDTH}}  {REACHABLE[one['reachable']]}"


def _summaries_lines(one: Json) -> Iterator[str]:
    """Tell the summaries that took its place one after the other, then others that have it."""
    survivors = {survivor["compaction_id"]: survivor for survivor in one["survives_in"]}
    for link in one["chain"]:
        kept = survivors.pop(link["compaction_id"], None)
        told = "does not have it" if kept is None else f"has it: {_kept(kept)}"
        seen = "the model sees it now" if link["current"] else "a later one took its place"
        yield f"{_offset(link['offset'])}  the summary {told}; {seen}"
    for survivor in survivors.values():
        seen = "current" if survivor["current"] else survivor["status"]
        yield f"{_offset(survivor['offset'])}  a summary ({seen}) has it: {_kept(survivor)}"


def _turn(offset: int, how: str, compaction_id: str | None) -> str:
    what = how.replace("_", " ")
    return f"{_offset(offset)}  {what if compaction_id is None else f'{what}: {compaction_id}'}"


def _evictor_lines(by: Json) -> Iterator[str]:
    indent = " " * (OFFSET_WIDTH + 2)
    yield (
        f"{indent}{by['trigger']}, {by['mode']}, {printable(by['model'])}: {by['tokens_before']} "
        f"of {by['context_window']} tokens before, {by['tokens_after']} after; "
        f"{by['messages_before']} messages before, {by['messages_after']} after"
    )
    if by["cut"] is not None:
        yield (
            f"{indent}cut before message {by['cut']}, at {by['share']:.0%} of them, which left "
            f"{by['tokens_left']} tokens; {by['goal']} were the goal"
        )
    yield f"{indent}evicted {ranges_told(by['ranges'])}; retention {by['retention']:.2f}"


def _kept(one: Json) -> str:
    share = "" if one["share"] == 1 else f"{one['share']:.0%}, "
    return f"{share}{_words(one['words'])}"


def _words(words: Sequence[str]) -> str:
    return ", ".join(map(short, words))


def ranges_told(ranges: Iterable[Mapping[str, Any]]) -> str:
    """Spell ranges of offsets, those that a fork inherited with whose they are."""
    return ", ".join(map(_range, ranges))


def _range(one: Mapping[str, Any]) -> str:
    told = str(one["first"]) if one["first"] == one["last"] else f"{one['first']}-{one['last']}"
    return told if one.get("stream") is None else f"{told} of {one['stream']}"


# --- windows ----------------------------------------------------------------------------------


def window_lines(window: Json) -> Iterator[str]:
    """Tell what a window holds."""
    tokens, system = window["tokens"], window["system"]
    yield (
        f"window at offset {window['at']}: {len(window['messages'])} messages, {tokens['total']} "
        f"tokens (system {tokens['system']}, summary {tokens['summary']}, messages "
        f"{tokens['messages']})"
    )
    if system is not None:
        yield f"{_offset(system['offset'])}  {'system':<{ROLE_WIDTH}} “{short(system['text'])}”"
    yield from map(message_line, window["messages"])


def message_line(message: Json) -> str:
    """Tell a message in a window."""
    words = short(" ".join(map(_part, message["parts"])))
    marks = [name for name in ("pinned", "interrupted") if message[name]]
    if message["compaction_id"] is not None:
        marks.append(message["compaction_id"])
    if message.get("stream") is not None:
        marks.append(f"inherited from {message['stream']}")
    return "  ".join(
        (
            _offset(message["offset"]),
            f"{message['role']:<{ROLE_WIDTH}} “{words}”",
            f"{message['tokens']} {'token' if message['tokens'] == 1 else 'tokens'}",
            *marks,
        )
    )


def _part(part: Json) -> str:
    match part["type"]:
        case "text" | "reasoning":
            return str(part.get("text"))
        case "tool_call":
            return f"{part['name']}({part['arguments']})"
        case "tool_result":
            content = part["content"]
            return content if isinstance(content, str) else " ".join(map(_part, content))
        case kind:
            return f"[{kind}]"


def diff_lines(diff: Json) -> Iterator[str]:
    """Tell what is different between two windows."""
    one, other = diff["before"], diff["after"]
    yield f"window at offset {one['at']} and at offset {other['at']}"
    yield f"messages  {one['messages']} and {other['messages']}"
    yield f"tokens    {one['tokens']} and {other['tokens']}"
    same = "as it was" if not diff["system_changed"] else f"changed at {other['system_at']}"
    yield f"system    {same}"
    for sign, name in (("-", "left"), ("+", "entered")):
        for message in diff[name]:
            yield f"{sign}{message_line(message)}{_moved(message['by'])}"


def _moved(by: Json | None) -> str:
    if by is None:
        return ""
    how = by["type"].split(".", 1)[1].replace("_", " ")
    which = "" if by["compaction_id"] is None else f" {by['compaction_id']}"
    return f"  {how} at {by['offset']}{which}"


# --- compactions ------------------------------------------------------------------------------


def compactions_lines(rows: Sequence[Json]) -> Iterator[str]:
    """Tell the compactions, a line each."""
    if not rows:
        yield "no compactions"
    yield from map(_row, rows)


def _row(row: Json) -> str:
    told = [_offset(row["offset"]), f"{row['status']:<11}", row["compaction_id"], row["trigger"]]
    if row["mode"] is None:
        told += [f"{row['tokens_before']} tokens", *map(short, _reasons(row))]
    else:
        told += [
            row["mode"],
            printable(row["model"]),
            f"{row['tokens_before']} to {row['tokens_after']} tokens",
            f"{row['messages_before']} to {row['messages_after']} messages",
            f"retention {row['retention']:.2f}",
        ]
    return "  ".join(told)


def _reasons(row: Json) -> list[str]:
    return [row[name] for name in ("reason", "detail") if row[name] is not None]


def compaction_lines(shown: Json) -> Iterator[str]:
    """Tell a compaction in full."""
    yield _row(shown)
    for attempt in shown["attempts"]:
        yield from _attempt_lines(attempt)
    if shown["planned_at"] is None:
        return
    yield (
        f"planned on the window at offset {shown['planned_at']}; cutoff {shown['cutoff_before']} "
        f"before, {shown['cutoff_after']} after"
    )
    yield f"evicted {ranges_told(shown['ranges'])}"
    yield from map(message_line, shown["evicted"])
    yield f"kept {', '.join(map(str, shown['kept'])) or 'nothing'}"
    yield f"summary “{printable(shown['summary'])}”"
    yield from _retention_lines(shown["retained"]["kinds"])


def _attempt_lines(attempt: Json) -> Iterator[str]:
    model = "" if attempt["model"] is None else f", {printable(attempt['model'])}"
    failed = "" if attempt["failure"] is None else f": {attempt['failure']}"
    detail = "" if attempt["detail"] is None else f" ({short(attempt['detail'])})"
    yield f"tried {attempt['mode']}{model}{failed}{detail}"
    for one in attempt["tries"]:
        cut = "no place" if one["cut"] is None else f"message {one['cut']}, {one['tokens']} tokens"
        yield f"  at {one['share']:.0%}: {cut}, goal {attempt['goal']}"


def _retention_lines(kinds: Mapping[str, Json]) -> Iterator[str]:
    for kind, one in kinds.items():
        lost = one["lost_items"][:LOST_SHOWN]
        more = "" if not lost else f"; lost: {_words(lost)}"
        yield f"kept {one['kept']} of {one['found']} of kind {kind}{more}"


def restored_lines(restored: Json) -> Iterator[str]:
    """Tell the window after a compaction was undone or redone."""
    state = "holds again" if restored["active"] else "is undone"
    yield (
        f"{restored['compaction_id']} {state}: the window at offset {restored['at']} has "
        f"{restored['messages']} messages and {restored['tokens']} tokens"
    )
