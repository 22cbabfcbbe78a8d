"""The read tables: views kept in SQL, written in the transaction of their facts.

Each can be dropped and rebuilt from the log. Every primary key begins with the column that a
distributed database would shard by. What a fact changes in them is in `patches`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, LiteralString


@dataclass(frozen=True, slots=True)
class Table:
    """A read table: column names with `text` or `bigint`, the key's columns first.

    `partial` are columns with an index of the rows of which a condition is true: a query must have
    its very words. `long` are columns with an index for equality alone, as their values may be too
    large for an ordered one. `searched` is a column of words with spaces between, by each of which
    rows are found; its table is keyed by (stream, version). A patch gives the columns in `clocked` as
    milliseconds from now, by the database's clock. A table that is not `rebuilt` says something of
    the present, which no fact knows.
    """

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    indexes: tuple[tuple[str, ...], ...] = ()
    partial: tuple[tuple[LiteralString, LiteralString], ...] = ()
    long: tuple[str, ...] = ()
    searched: str | None = None
    clocked: tuple[str, ...] = ()
    rebuilt: bool = True


# Of a run that is not over.
UNFINISHED: Final[LiteralString] = "status IN ('created', 'running')"

TABLES: Final = MappingProxyType(
    {
        table.name: table
        for table in (
            Table(
                "conversations",
                # `parent_id` and `parent_at` say where a fork left its parent.
                ("conversation_id",),
                {
                    "conversation_id": "text",
                    "agent_id": "text",
                    "created_at": "text",
                    "updated_at": "text",
                    "last_message_at": "text",
                    "last_run_completion": "text",
                    "archived_at": "text",
                    "deleted": "bigint",
                    "hidden": "bigint",
                    "archived": "bigint",
                    "summary": "text",
                    "description": "text",
                    "model": "text",
                    "model_settings": "text",
                    "context_window_limit": "bigint",
                    "isolated": "text",
                    "last_stop_reason": "text",
                    "last_said_at": "text",
                    "parent_id": "text",
                    "parent_at": "bigint",
                },
                (("agent_id", "created_at"), ("created_at",), ("parent_id", "parent_at")),
            ),
            Table(
                "runs",
                ("conversation_id", "run_id"),
                {
                    "conversation_id": "text",
                    "run_id": "text",
                    "queued_at": "bigint",
                    "finished_at": "bigint",
                    "status": "text",
                    "stop_reason": "text",
                    "background": "bigint",
                    "created_at": "text",
                    "completed_at": "text",
                    "model": "text",
                    "request": "text",
                    "usage": "text",
                    "error": "text",
                    "body_hash": "text",
                    "hidden": "bigint",
                    "callback_url": "text",
                    "callback_due": "bigint",
                    "callback_sent_at": "text",
                    "callback_status_code": "bigint",
                    "callback_error": "text",
                    "context_window": "bigint",
                },
                (("status", "created_at"), ("created_at",), ("callback_due",)),
                # Few are not over, however many there have been.
                partial=(("conversation_id", UNFINISHED),),
            ),
            Table(
                "steps",
                # A model call; `version` is the offset of its `step.started`.
                ("conversation_id", "version"),
                {
                    "conversation_id": "text",
                    "version": "bigint",
                    "step_id": "text",
                    "run_id": "text",
                    "message_id": "text",
                    "position": "bigint",
                    "attempt": "bigint",
                    "model": "text",
                    "created_at": "text",
                    "status": "text",
                    "usage": "text",
                    "error": "text",
                },
                (("conversation_id", "run_id", "version"), ("created_at",)),
            ),
            Table(
                "consolidations",
                # Of memory: what was asked for in a conversation. `due` while it is under way.
                ("conversation_id", "consolidation_id"),
                {
                    "conversation_id": "text",
                    "consolidation_id": "text",
                    "queued_at": "bigint",
                    "finished_at": "bigint",
                    "settled_at": "bigint",
                    "due": "bigint",
                    "status": "text",
                    "created_at": "text",
                    "completed_at": "text",
                },
                (("due",), ("consolidation_id",), ("created_at",)),
            ),
            Table(
                "leases",
                ("work",),
                {"work": "text", "holder": "text", "expires_at": "bigint"},
                clocked=("expires_at",),
                rebuilt=False,
            ),
            Table(
                "idempotency_keys",
                ("conversation_id", "key"),
                {
                    "conversation_id": "text",
                    "key": "text",
                    "run_id": "text",
                    "body_hash": "text",
                },
            ),
            Table(
                "locators",
                # A run or message is looked up by its id alone, but stored beside its stream. Only
                # what lists show as a message has an `at`: by it all messages are in one order.
                ("stream", "id"),
                {"stream": "text", "id": "text", "version": "bigint", "at": "text"},
                (("id",), ("at",)),
            ),
            Table(
                "texts",
                # What was said and can be searched: a row is a fact that has words. `place` names
                # the item of the window that they belong to, `words` counts the `terms`. An
                # archive's passages are texts of its stream.
                ("stream", "version"),
                {
                    "stream": "text",
                    "version": "bigint",
                    "place": "bigint",
                    "role": "text",
                    "kind": "text",
                    "at": "text",
                    "text": "text",
                    "terms": "text",
                    "words": "bigint",
                },
                searched="terms",
            ),
            Table(
                "archives",
                ("archive_id",),
                {
                    "archive_id": "text",
                    "agent_id": "text",
                    "created_at": "text",
                    "updated_at": "text",
                    "deleted": "bigint",
                },
                (("created_at",),),
            ),
            Table(
                "passages",
                # The text of each is in `texts`, at its `version`. `deleted_at` is an offset, too.
                ("archive_id", "passage_id"),
                {
                    "archive_id": "text",
                    "passage_id": "text",
                    "version": "bigint",
                    "tags": "text",
                    "metadata": "text",
                    "created_at": "text",
                    "deleted_at": "bigint",
                },
                (("archive_id", "created_at"), ("archive_id", "version")),
            ),
            Table(
                "embeddings",
                # What passages mean, in the space of one model: made by it, not by facts.
                ("archive_id", "passage_id"),
                {
                    "archive_id": "text",
                    "passage_id": "text",
                    "version": "bigint",
                    "space": "text",
                    "signs": "text",
                    "vector": "text",
                },
                rebuilt=False,
            ),
            Table(
                "agents",
                ("agent_id",),
                {
                    "agent_id": "text",
                    "name": "text",
                    "description": "text",
                    "tags": "text",
                    "block_ids": "text",
                    "created_at": "text",
                    "updated_at": "text",
                    "deleted": "bigint",
                    "hidden": "bigint",
                },
                (("created_at",),),
                long=("name",),
            ),
            Table(
                "blocks",
                ("block_id",),
                {
                    "block_id": "text",
                    "label": "text",
                    "value": "text",
                    "description": "text",
                    "tags": "text",
                    "read_only": "bigint",
                    "created_at": "text",
                    "updated_at": "text",
                    "deleted": "bigint",
                    "hidden": "bigint",
                },
                (("created_at",), ("label",)),
            ),
        )
    }
)
