"""What `everlog import` says of the file that it reads."""

from typing import Final

# A \b keeps the lines after it as they are.
IMPORT_HELP: Final = """Bring conversations in from a file of JSON Lines.

A conversation is a header line, then its messages in order, a line each, however long:

\b
{"conversation": {"agent": {"name": "guide", "model": "demo/echo"}}}
{"role": "user", "content": "Is it warm?", "date": "2024-05-31T16:20:00Z"}
{"role": "assistant", "reasoning": "I should look.", "content": "I look.",
    "tool_calls": [{"id": "c1", "name": "weather", "arguments": "{}"}]}
{"role": "tool", "tool_call_id": "c1", "content": "20 °C", "status": "ok"}
{"role": "assistant", "content": "It is 20 °C."}

The header names an agent, "agent_id", or describes one to be made: name, model, system,
description, tags, metadata, timezone, context_window_limit, model_settings, tools, approval_tools,
terminal_tools, blocks. It may have summary, description, model, model_settings,
context_window_limit and hidden, and an "id", by which the conversation is known when it comes
again; without one it is known by its content. What is there already stays as it is, so a file may
be imported again.

Roles are user, system, assistant and tool. A tool message answers a call of the assistant message
before it, with status ok, error, denied, cancelled or unknown; a call without an answer is closed
as unknown. An assistant message that broke off has the status interrupted. A "date" is as in RFC
3339. A "content" is text or a list of parts. A field that is not known is an error.

Each conversation is checked before any of it is written; what is wrong is told with its line, and
the others are imported. A SQLite file must not be in use by a server, and is made if there is
none; a Postgres may be in use.
"""
