"""`everlog import` and `everlog export`: conversations brought in as a file, and taken out.

Both work on the database itself. What a file looks like is told in projections/transcript.py.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import typer

from app.commands import MISUSED, CommandFailed
from app.commands.database import in_words, opened, settings_of
from app.commands.maintain import bar, counted
from app.execute import Execute, TooMuchContention
from app.history.exporting import conversations_in, lines_of, state_of
from app.history.importing import Imported, Importer, NotImported
from app.history.lines import BadLine, Told, told_in
from app.log import Log, StoreUnavailable
from app.mapper import UnreadableFact
from app.settings import Settings
from app.storage.databases import store_at, terms_of
from app.storage.integrity import rebuild_tables
from app.storage.store import Store
from domain.conversation import Conversation
from domain.streams import AGENT, CONVERSATION, is_id
from projections.interchange import spelled

STDIO: Final = "-"
AGAIN: Final = "import the file again, and it goes on from there"

# --- import -------------------------------------------------------------------------------------


def run_import(file: str, database: str | None, agent_id: str | None) -> None:
    """Take in the conversations of a file, tell each, and what is wrong. Raises CommandFailed."""
    settings = settings_of(database_url=database)
    if agent_id is not None and not is_id(AGENT, agent_id):
        raise CommandFailed(f"{agent_id!r} is not the id of an agent: {AGENT}-<uuid4>.", MISUSED)
    with _reading(file) as (source, size), bar("Importing", size, "bytes") as progress:
        try:
            taken, bad = asyncio.run(_import(settings, agent_id, file, source, progress))
        except KeyboardInterrupt:
            raise CommandFailed(f"Stopped half-way: {AGAIN}.") from None
        except (StoreUnavailable, TooMuchContention) as error:
            raise CommandFailed(f"Stopped half-way: {error}; {AGAIN}.") from error
    if bad:
        raise CommandFailed(f"{bad} of {counted(taken + bad, 'conversation')} not imported.")


async def _import(
    settings: Settings,
    agent_id: str | None,
    file: str,
    source: BinaryIO,
    progress: Callable[[int], None],
) -> tuple[int, int]:
    """Take in what is good and tell what is not; count both."""
    taken = bad = 0
    async with Log(_writable(settings), patience_s=settings.database_patience_s) as log:
        importer = Importer(log, Execute(log), agent_id)
        for told in told_in(source):
            found = await _taken(importer, told, progress)
            if isinstance(found, BadLine):
                bad += 1
                typer.echo(f"{file}:{found}", err=True)
            else:
                taken += 1
                typer.echo(_told(found))
    return taken, bad


async def _taken(
    importer: Importer, told: Told | BadLine, progress: Callable[[int], None]
) -> Imported | BadLine:
    if isinstance(told, BadLine):
        return told
    try:
        return await importer.take_in(told, progress)
    except NotImported as error:
        return BadLine(told.line, f"conversation.{error}")


def _told(imported: Imported) -> str:
    """Give the line of a conversation that is in."""
    old = imported.messages - imported.fresh
    known = (
        counted(old, "message") + " had come before" if imported.fresh else "nothing of it is new"
    )
    notes = (
        (counted(imported.unreturned, "call") + " had no return", imported.unreturned),
        (known, old),
    )
    told = (
        f"{imported.conversation_id}: {counted(imported.messages, 'message')}, "
        f"offsets 1 to {imported.last:,}"
    )
    return "; ".join([told, *(note for note, holds in notes if holds)])


def _writable(settings: Settings) -> Store:
    """Open the database to write to it, beside servers if it lets us; a file may be a new one."""
    with in_words(settings.database):
        store = store_at(settings.database_url, terms_of(settings, "import"))
        if store.outdated:
            rebuild_tables(store)
            store.up_to_date()
        return store


@contextmanager
def _reading(file: str) -> Generator[tuple[BinaryIO, int | None]]:
    """Open what is to be read, and tell its size if it has one."""
    if file == STDIO:
        yield sys.stdin.buffer, None
        return
    try:
        source = Path(file).open("rb")  # noqa: SIM115 - closed below, where no error is ours to name
    except OSError as error:
        raise CommandFailed(f"Cannot read {file}: {error.strerror}.", MISUSED) from error
    with source:
        yield source, os.fstat(source.fileno()).st_size


# --- export -------------------------------------------------------------------------------------


def run_export(  # noqa: PLR0913 - which conversations, what of them, and where to
    conversations: Sequence[str],
    output: Path | None,
    database: str | None,
    *,
    every: bool,
    deleted: bool,
    rolled_back: bool,
) -> None:
    """Write conversations as a file or to the standard output. Raises CommandFailed."""
    if every == bool(conversations):
        raise CommandFailed("Name conversations, or have --all of them.", MISUSED)
    with opened(database, "export") as store, _readable():
        heads = dict(conversations_in(store)) if every else store.heads(conversations)
        names = [*heads] if every else conversations
        with bar("Exporting", sum(heads.values())) as progress, _writing(output) as target:
            count = messages = 0
            for stream, state in _chosen(store, names, every=every, deleted=deleted):
                count += 1
                for line in lines_of(store, stream, state, progress, with_rolled_back=rolled_back):
                    target.write(spelled(line))
                    messages += 1
    said = f"{counted(messages - count, 'message')} of {counted(count, 'conversation')}"
    typer.echo(f"{said} written.", err=True)


def _chosen(
    store: Store, names: Iterable[str], *, every: bool, deleted: bool
) -> Iterator[tuple[str, Conversation]]:
    """Give the conversations to export. Raises CommandFailed for a name that stands for none."""
    for stream in names:
        state = state_of(store, stream) if is_id(CONVERSATION, stream) else Conversation()
        if state.agent_id is None:
            raise CommandFailed(f"There is no conversation {stream}.", MISUSED)
        if not state.deleted or deleted:
            yield stream, state
        elif not every:
            raise CommandFailed(f"{stream} is deleted; --deleted exports it all the same.", MISUSED)


@contextmanager
def _writing(output: Path | None) -> Generator[BinaryIO]:
    """Give where to write; a file is there under its name only once all of it is."""
    if output is None:
        with _piped():
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        return
    part = output.with_name(f"{output.name}.part")
    try:
        with part.open("wb") as target:
            yield target
        part.replace(output)
    except OSError as error:
        raise CommandFailed(f"Cannot write {output}: {error.strerror}.") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _piped() -> Generator[None]:
    """Say in words that whoever read the output went away, and nothing more of it at the end."""
    try:
        yield
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CommandFailed("Whoever read the output went away.") from error


@contextmanager
def _readable() -> Generator[None]:
    try:
        yield
    except UnreadableFact as error:
        raise CommandFailed(f"{error}. `everlog verify` looks for more.") from error
