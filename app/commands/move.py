"""`everlog migrate` and `everlog copy`: a Postgres made ready, and a log moved into it."""

from contextlib import AbstractContextManager

import typer

from app.commands import MISUSED, CommandFailed
from app.commands.database import in_words, opened_at, patient, settings_of
from app.commands.maintain import bar, counted
from app.settings import Settings, shown, sqlite_path
from app.storage.copying import Copied, Differs, copy_all, flaws_of
from app.storage.integrity import rebuild_tables, size_of
from app.storage.postgres import PostgresStore, migrate
from app.storage.store import Store


def run_migrate(database: str | None, *, distributed: bool) -> None:
    """Create the tables or bring them up to date. Raises CommandFailed."""
    settings = settings_of(database_url=database)
    url = settings.database_url
    if sqlite_path(url) is not None:
        raise CommandFailed(
            "A SQLite file needs no migration: it is brought up to date when it is served.", MISUSED
        )
    terms = patient(settings, "migrate")
    with in_words(shown(url)):
        outdated = migrate(url, terms, distributed=distributed)
        if outdated:
            _rewrite(PostgresStore(url, terms, rebuilding=True))
    typer.echo(f"{shown(url)} is ready to be served.")


def _rewrite(store: PostgresStore) -> None:
    """Write read tables anew whose form has changed."""
    try:
        with bar("Rebuilding", size_of(store)) as progress:
            rebuild_tables(store, progress)
        store.up_to_date()
    finally:
        store.close()


def run_copy(source: str, target: str) -> None:
    """Copy a log and check the copy. Raises CommandFailed."""
    settings = settings_of(database_url=source)
    into = settings_of(database_url=target)
    if source == target:
        raise CommandFailed("The source and the target are the same database.", MISUSED)
    with _opened(settings) as old, _opened(into, create=True) as new:
        _refuse_while_served(old, new)
        copied = _copied(old, new)
        with bar("Verifying", size_of(old)) as progress:
            flaws = [*flaws_of(old, new, progress)]
    for one in (*copied.unreadable, *flaws):
        typer.echo(one)
    if flaws:
        raise CommandFailed(f"{counted(len(flaws), 'stream')} did not arrive as they were.")
    typer.echo(
        f"{into.database} holds {counted(copied.streams, 'stream')} of the source, "
        f"{counted(copied.facts, 'fact')} of it new; every hash is as it was."
    )


def _opened(settings: Settings, *, create: bool = False) -> AbstractContextManager[Store]:
    return opened_at(settings.database_url, patient(settings, "copy"), create=create)


def _copied(old: Store, new: Store) -> Copied:
    try:
        with bar("Copying", size_of(old)) as progress:
            return copy_all(old, new, progress)
    except Differs as error:
        raise CommandFailed(f"{error}.") from error
    except KeyboardInterrupt:
        raise CommandFailed("Stopped half-way: run it again, and it goes on from there.") from None


def _refuse_while_served(*stores: Store) -> None:
    if others := [name for store in stores for name in store.others()]:
        raise CommandFailed(f"Servers are at work on them: {', '.join(others)}. Stop them first.")
