"""The command line: which commands there are and what can be said to them.

What a command needs is imported when it is run, by `_module`, and not before: so help is there at
once, and the server does not wait for what only the demo needs.
"""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Final

import typer

from app.commands import CommandFailed
from app.commands.import_help import IMPORT_HELP

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


# --- what became of a window ----------------------------------------------------------------------

Conversation = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="The id of a conversation, or of an agent for the agent's own."
    ),
]
CompactionId = Annotated[
    str, typer.Argument(metavar="COMPACTION_ID", help="The id of a compaction.")
]
Url = Annotated[str, typer.Option(help="Where the server is.")]
Deleted = Annotated[bool, typer.Option("--deleted", help="Look into a deleted conversation, too.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@cli.command()
def why(  # noqa: PLR0913 - what can be said to it
    conversation: Conversation,
    query: Annotated[
        str,
        typer.Argument(
            metavar="PHRASE",
            help="What was said, or the id of a message or tool call; double quotes around words "
            "ask for just these in a row.",
        ),
    ],
    limit: Annotated[int, typer.Option(min=1, max=100, help="Show so many places.")] = 10,
    url: Url = URL,
    *,
    deleted: Deleted = False,
    raw: Json = False,
) -> None:
    """Tell why an agent has forgotten something: where it was said, what evicted it, what is left."""
    _module("audit").why(conversation, query, url, limit, deleted=deleted, raw=raw)


@cli.command()
def window(
    conversation: Conversation,
    at: Annotated[
        int | None, typer.Option(min=1, help="At which offset.", show_default="the newest")
    ] = None,
    url: Url = URL,
    *,
    deleted: Deleted = False,
    raw: Json = False,
) -> None:
    """Show what the model saw at an offset."""
    _module("audit").window(conversation, at, url, deleted=deleted, raw=raw)


@cli.command()
def compactions(
    conversation: Conversation,
    compaction: Annotated[
        str | None,
        typer.Argument(
            metavar="COMPACTION_ID", help="One of them, in full.", show_default="all of them"
        ),
    ] = None,
    url: Url = URL,
    *,
    deleted: Deleted = False,
    raw: Json = False,
) -> None:
    """List a conversation's compactions, or show one in full."""
    _module("audit").compactions(conversation, compaction, url, deleted=deleted, raw=raw)


@cli.command()
def block(
    block: Annotated[str, typer.Argument(metavar="BLOCK_ID", help="The block.")],
    url: Url = URL,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many versions.")] = 20,
    *,
    deleted: Annotated[bool, typer.Option("--deleted", help="A deleted block, too.")] = False,
    raw: Json = False,
) -> None:
    """Show what became of a memory block: each version, what changed, and by whose doing."""
    _module("blocks").history(block, url, limit, deleted=deleted, raw=raw)


@cli.command()
def undo(
    conversation: Conversation,
    compaction: CompactionId,
    url: Url = URL,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Even if runs then have too little room.")
    ] = False,
    raw: Json = False,
) -> None:
    """Bring back into the window what a compaction evicted."""
    _module("audit").undo(conversation, compaction, url, force=force, raw=raw)


@cli.command()
def redo(
    conversation: Conversation, compaction: CompactionId, url: Url = URL, *, raw: Json = False
) -> None:
    """Have a compaction that was undone hold again."""
    _module("audit").redo(conversation, compaction, url, raw=raw)


@cli.command()
def diff(  # noqa: PLR0913 - what can be said to it
    conversation: Conversation,
    one: Annotated[int, typer.Argument(metavar="N", min=1, help="An offset.")],
    other: Annotated[int, typer.Argument(metavar="M", min=1, help="Another.")],
    url: Url = URL,
    *,
    deleted: Deleted = False,
    raw: Json = False,
) -> None:
    """Compare the windows at two offsets: what came, what left, and by which compaction."""
    _module("audit").diff(conversation, one, other, url, deleted=deleted, raw=raw)


@cli.command()
def fork(
    conversation: Conversation,
    at: Annotated[
        int | None,
        typer.Option(min=1, help="After which offset.", show_default="after all there is"),
    ] = None,
    message: Annotated[
        str | None,
        typer.Option(metavar="MESSAGE_ID", help="After which message.", show_default=False),
    ] = None,
    url: Url = URL,
    *,
    raw: Json = False,
) -> None:
    """Begin a conversation that shares this one's past, and print its id."""
    _module("audit").fork(conversation, at, message, url, raw=raw)


# --- the database ---------------------------------------------------------------------------------


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


@cli.command("import", help=IMPORT_HELP)
def import_(
    file: Annotated[
        str, typer.Argument(metavar="FILE.jsonl", help="The file; - is the standard input.")
    ],
    database: Database = None,
    agent: Annotated[
        str | None,
        typer.Option(
            metavar="AGENT_ID",
            help="Whose the conversations are to be.",
            show_default="as the file says",
        ),
    ] = None,
) -> None:
    """Bring conversations in from a file of JSON Lines."""
    _module("history").run_import(file, database, agent)


@cli.command()
def export(  # noqa: PLR0913 - what can be said to it
    conversations: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONVERSATION…", help="Ids of conversations.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write.", show_default="standard output"),
    ] = None,
    database: Database = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All conversations.")] = False,
    deleted: Annotated[bool, typer.Option("--deleted", help="Deleted conversations, too.")] = False,
    rolled_back: Annotated[
        bool, typer.Option("--rolled-back", help="Turns that were rolled back, too.")
    ] = False,
) -> None:
    """Take conversations out as a file of JSON Lines that `import` reads.

    All messages that ever were are in it, whatever has left the window. A SQLite file must not be
    in use by a server; a Postgres may be.
    """
    _module("history").run_export(
        conversations or [],
        output,
        database,
        every=every,
        deleted=deleted,
        rolled_back=rolled_back,
    )


@cli.command("import-agent")
def import_agent(
    file: Annotated[Path, typer.Argument(metavar="FILE.af", help="A file of agents.")],
    model: Annotated[
        str | None, typer.Option(metavar="HANDLE", help="Which model the agents are to have.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the agent is to be called.")] = None,
    url: Url = URL,
) -> None:
    """Bring agents in from a file that this or a Letta server wrote, with all that was said to them."""
    _module("agent_files").run_import(file, url, model, name)


@cli.command("export-agent")
def export_agent(
    agent: Annotated[str, typer.Argument(metavar="AGENT_ID", help="The agent.")],
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE.af", help="Where to write.", show_default="standard output"),
    ] = None,
    url: Url = URL,
) -> None:
    """Take an agent out as a file, with its blocks, conversations and archive."""
    _module("agent_files").run_export(agent, output, url)


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
