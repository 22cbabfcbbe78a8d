"""`everlog verify` and `everlog rebuild`: on the database itself, without a server."""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from app.commands import MISUSED, CommandFailed
from app.commands.database import opened
from app.storage.integrity import Verdict, rebuild_tables, size_of, verify_all, verify_stream
from app.storage.store import Store


def verify(stream: str | None, database: str | None) -> None:
    """Check one stream or all; name what is bad. Raises CommandFailed."""
    streams = facts = bad = 0
    with opened(database, "verify") as store, bar("Verifying", _size(store, stream)) as progress:
        for name, verdict in _verdicts(store, stream, progress):
            streams, facts, bad = streams + 1, facts + verdict.head, bad + (not verdict.ok)
            if not verdict.ok:
                typer.echo(f"{name} is bad at offset {verdict.first_bad}: {verdict.reason}.")
    if bad:
        raise CommandFailed(f"{bad} of {counted(streams, 'stream')} cannot be trusted.")
    typer.echo(f"{counted(facts, 'fact')} in {counted(streams, 'stream')}: all as written.")


def rebuild(database: str | None) -> None:
    """Write the read tables again; name what cannot be read. Raises CommandFailed."""
    with opened(database, "rebuild") as store, bar("Rebuilding", size_of(store)) as progress:
        if others := store.others():
            raise CommandFailed(f"Servers are at work on it: {', '.join(others)}. Stop them first.")
        try:
            unreadable = rebuild_tables(store, progress)
        except KeyboardInterrupt:
            raise CommandFailed("Stopped half-way: run `everlog rebuild` again.") from None
        facts = size_of(store)
    for one in unreadable:
        typer.echo(one)
    if unreadable:
        raise CommandFailed(f"{counted(len(unreadable), 'fact')} could not be read and left out.")
    typer.echo(f"The read tables are written again from {counted(facts, 'fact')}.")


def _verdicts(
    store: Store, stream: str | None, progress: Callable[[int], None]
) -> Iterator[tuple[str, Verdict]]:
    if stream is None:
        yield from verify_all(store, progress)
        return
    verdict = verify_stream(store, stream, progress)
    if verdict.ok and verdict.head == 0:
        raise CommandFailed(f"There is no stream {stream}.", MISUSED)
    yield stream, verdict


def _size(store: Store, stream: str | None) -> int:
    if stream is None:
        return size_of(store)
    return (store.head(stream) or (0, b""))[0]


@contextmanager
def bar(doing: str, total: int | None, noun: str = "facts") -> Generator[Callable[[int], None]]:
    """Show how far it is, where somebody watches."""
    console = Console(stderr=True)
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn(noun))
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda more: bar.advance(task, more)


def counted(count: int, noun: str) -> str:
    """Give a number and its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
