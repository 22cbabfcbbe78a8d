"""Three tools by which a model writes into its memory blocks.

Each call is applied once, however often it is run. The prompt of a conversation keeps showing a block
as it was when it was last put together, so every answer tells what the block is now.
"""

from typing import Any, Final, Protocol

from app.tools import Call, ToolFailed
from app.tools.arguments import whole_number
from domain.block import VALUE_CHARS_MAX, BlockSettings
from domain.block_edits import Edit, Insertion, Replacement, Rewriting
from domain.content import ToolSchema

SHOWN_CHARS_MAX: Final = 4000
LABEL_CHARS_MAX: Final = 256
LINE_MAX: Final = VALUE_CHARS_MAX
AT_END: Final = -1
LABEL: Final[dict[str, Any]] = {
    "type": "string",
    "description": "The label of the memory block, as it stands in your prompt.",
}
STALE: Final = (
    "What the tool returns is the block as it is now; your prompt may go on showing an older one."
)


class Memory(Protocol):
    """The memory that a call's conversation has."""

    async def edit(self, call: Call, label: str, edit: Edit) -> BlockSettings:
        """Edit a block once, give it as it is now. Raises ToolFailed."""
        ...


class MemoryInsert:
    """Puts lines into a block."""

    idempotent = True
    schema = ToolSchema(
        name="memory_insert",
        description=(
            "Adds text to one of your memory blocks, as lines of its own, and leaves what is there "
            f"as it is. {STALE}"
        ),
        parameters={
            "type": "object",
            "properties": {
                "label": LABEL,
                "new_string": {"type": "string", "description": "The text to add."},
                "insert_line": {
                    "type": "integer",
                    "minimum": AT_END,
                    "description": (
                        "The number of the line to add it after, counted from 1; 0 adds it at the "
                        f"beginning, {AT_END} at the end. {AT_END} if left out."
                    ),
                },
            },
            "required": ["label", "new_string"],
        },
    )

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def run(self, arguments: dict[str, Any], call: Call) -> str:
        """Insert."""
        text = _text(arguments, "new_string")
        line = whole_number(
            arguments, "insert_line", AT_END, LINE_MAX, default=AT_END, bounds=f" from {AT_END}"
        )
        edit = Insertion(text, None if line == AT_END else line)
        return told(await self._memory.edit(call, _label(arguments), edit), text)


class MemoryReplace:
    """Replaces a piece of a block."""

    idempotent = True
    schema = ToolSchema(
        name="memory_replace",
        description=(
            "Changes a piece of one of your memory blocks: to correct it, or, with nothing to put "
            f"in its place, to remove it. {STALE}"
        ),
        parameters={
            "type": "object",
            "properties": {
                "label": LABEL,
                "old_string": {
                    "type": "string",
                    "description": (
                        "The piece to change, letter by letter as it stands in the block, and long "
                        "enough to occur there only once."
                    ),
                },
                "new_string": {
                    "type": "string",
                    "description": "What to put in its place; may be empty.",
                },
            },
            "required": ["label", "old_string", "new_string"],
        },
    )

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def run(self, arguments: dict[str, Any], call: Call) -> str:
        """Replace."""
        new = _text(arguments, "new_string")
        edit = Replacement(_text(arguments, "old_string"), new)
        return told(await self._memory.edit(call, _label(arguments), edit), new)


class MemoryRethink:
    """Writes a block anew."""

    idempotent = True
    schema = ToolSchema(
        name="memory_rethink",
        description=(
            "Writes the whole of one of your memory blocks anew: to put it in order, to shorten it, "
            "to bring together what belongs together. What you leave out is gone from the block. "
            f"{STALE}"
        ),
        parameters={
            "type": "object",
            "properties": {
                "label": LABEL,
                "new_memory": {
                    "type": "string",
                    "description": "All that the block is to hold from now on.",
                },
            },
            "required": ["label", "new_memory"],
        },
    )

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def run(self, arguments: dict[str, Any], call: Call) -> str:
        """Rewrite."""
        text = _text(arguments, "new_memory")
        return told(await self._memory.edit(call, _label(arguments), Rewriting(text)), text)


# --- arguments --------------------------------------------------------------------------------


def _label(arguments: dict[str, Any]) -> str:
    label = _text(arguments, "label")
    if not 1 <= len(label) <= LABEL_CHARS_MAX:
        raise ToolFailed(f"label: a string of 1 to {LABEL_CHARS_MAX} characters is needed")
    return label


def _text(arguments: dict[str, Any], name: str) -> str:
    """Give a text that can be kept: JSON can spell what no database takes."""
    text = arguments.get(name)
    if not isinstance(text, str) or len(text) > VALUE_CHARS_MAX:
        raise ToolFailed(f"{name}: a string of at most {VALUE_CHARS_MAX} characters is needed")
    if not _storable(text):
        raise ToolFailed(f"{name}: it holds a character that cannot be kept")
    return text


def _storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


# --- words ------------------------------------------------------------------------------------


def told(block: BlockSettings, written: str) -> str:
    """Tell that something was written, and what the block is now."""
    return f"Done. {excerpt_of(block, written)}"


def excerpt_of(block: BlockSettings, around: str = "") -> str:
    """Tell what a block is now; of a long one a part, with `around` in it if it is there."""
    value = block.value
    head = f"The block {block.label!r} now has {len(value)} of {block.limit} characters"
    if not value:
        return f"{head}: it is empty."
    middle = max(value.find(around), 0) + min(len(around), SHOWN_CHARS_MAX) // 2
    start = max(0, min(middle - SHOWN_CHARS_MAX // 2, len(value) - SHOWN_CHARS_MAX))
    rest = len(value) - start - SHOWN_CHARS_MAX
    before = f"(… {start} characters before)\n" if start else ""
    after = f"\n(… {rest} more characters)" if rest > 0 else ""
    return f"{head}:\n{before}{value[start : start + SHOWN_CHARS_MAX]}{after}"
