"""The command line: which commands there are and what can be said to them.

What a command needs is imported when it is run, by `_module`, and not before: so help is there at
once, and the server does not wait for what only the demo needs.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Annotated, Final

import typer

from app.commands import CommandFailed

URL: Final = "http://127.0.0.1:8283"

cli = typer.Typer(
    name="everlog",
    help="A self-hosted server for agents' conversations, every fact of them kept.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: in boxes, half of a narrow terminal is frame
    pretty_exceptions_enable=False,
)

Database = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The database, sqlite:///FILE or postgresql://…; else EVERLOG_DATABASE_URL.",
        show_default="sqlite:///everlog.db",
    ),
]


def main() -> None:
    """Run the command line."""
    try:
        cli(prog_name="everlog")
    except CommandFailed as failure:
        typer.echo(f"everlog: {failure}", err=True)
        sys.exit(failure.code)


def _module(name: str) -> ModuleType:
    """Import the module of a command."""
    return import_module(f"app.commands.{name}")


@cli.command()
def serve(
    host: Annotated[
        str | None,
        typer.Option(help="The address to listen on; else EVERLOG_HOST.", show_default="127.0.0.1"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="The port; 0 takes any that is free; else EVERLOG_PORT.",
            show_default="8283",
        ),
    ] = None,
    database: Database = None,
    *,
    insecure_public: Annotated[
        bool,
        typer.Option(
            "--insecure-public",
            help="Listen where other machines can reach the server, which has no authentication.",
        ),
    ] = False,
) -> None:
    """Start the server.

    There is no authentication: whoever reaches the server can read and change every conversation.
    So it listens on this machine only, unless --insecure-public is given. SIGTERM or Ctrl-C ends
    it; runs that were under way are resumed at the next start.
    """
    _module("serve").run(host, port, database, insecure_public=insecure_public)


@cli.command()
def tail(
    stream: Annotated[
        str,
        typer.Argument(metavar="CONVERSATION", help="The id of a conversation, agent or block."),
    ],
    after: Annotated[int, typer.Option(min=0, help="Begin after this offset.")] = 0,
    url: Annotated[str, typer.Option(help="Where the server is.")] = URL,
    types: Annotated[
        list[str] | None,
        typer.Option(help="Show only facts of this type, such as run.finished; repeatable."),
    ] = None,
    *,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Wait for more, or end at the newest.")
    ] = True,
) -> None:
    """Show the facts of a conversation, a line each, as they happen."""
    _module("tail").run(stream, after, url, types or [], follow=follow)


@cli.command()
def verify(
    stream: Annotated[
        str | None, typer.Argument(help="One stream only.", show_default="all of them")
    ] = None,
    database: Database = None,
) -> None:
    """Check that every fact is there, unchanged and in order.

    A file's server must not be running; a Postgres may be in use.
    """
    _module("maintain").verify(stream, database)


@cli.command()
def rebuild(database: Database = None) -> None:
    """Write the read tables again from the log. The server must not be running."""
    _module("maintain").rebuild(database)


@cli.command()
def migrate(
    database: Database = None,
    *,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed", help="Spread the tables over a Citus cluster, by conversation."
        ),
    ] = False,
) -> None:
    """Create Everlog's tables in a Postgres, or bring them up to date.

    It may be run again, and by several at once. A SQLite file needs none of it.
    """
    _module("move").run_migrate(database, distributed=distributed)


@cli.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The database to copy.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="A database that is migrated.")],
) -> None:
    """Copy everything from one database to another, such as sqlite:///a.db postgresql://….

    Offsets and hashes stay as they are, and are checked. If it is stopped, run it again. Neither
    database may be in use by a server.
    """
    _module("move").run_copy(source, target)


@cli.command()
def demo() -> None:
    """Kill a server in mid-sentence and see that nothing is lost: no key, no network."""
    try:
        module = _module("demo")
    except ModuleNotFoundError as error:
        if error.name != "letta_client":
            raise
        raise CommandFailed(
            "The demo talks through letta-client, which is not installed: "
            "pip install 'everlog[demo]'"
        ) from error
    module.run()
