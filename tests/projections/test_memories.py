"""Memories as XML: what is written is read back, and what is no memory is turned down."""

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.memories import MEMORY_CHARS_MAX, Memory, deserialize, serialize

# Surrogates, NUL, every control character, what would end an element or a section of one.
HOSTILE = st.one_of(
    st.text(st.characters(codec=None, exclude_categories=())),
    st.lists(
        st.sampled_from(
            [
                *("]]>", "&", "&amp;", "&#0;", "<", ">", "</message>", "</memory>", "<context>"),
                *("\r", "\n", "\r\n", "\t", " ", "\ud800", "\udfff", "\ufffe", "\uffff", "\x85"),
                *('<char code="0"/>', "\x1b", "\u2028", "😀", "<![CDATA[", "<!--", "&lt;", "\0"),
                *('"', "'", "\\"),
            ]
        ),
        max_size=12,
    ).map("".join),
)


@given(st.lists(HOSTILE, max_size=5), HOSTILE)
def test_what_is_written_is_read_back_character_for_character(
    messages: list[str], context: str
) -> None:
    assert deserialize(serialize(messages, context)) == Memory(tuple(messages), context)


@given(st.lists(HOSTILE, max_size=5), HOSTILE)
def test_any_reader_of_xml_reads_the_same(messages: list[str], context: str) -> None:
    # Python's own reader, on bytes that we wrote ourselves.
    root = ElementTree.fromstring(serialize(messages, context).encode())  # noqa: S314 - our own words
    found = [_text(one) for one in root.iterfind("messages/message")]
    about = root.find("context")
    assert about is not None
    assert (found, _text(about)) == (messages, context)


def _text(element: ElementTree.Element) -> str:
    parts = [element.text or ""]
    for one in element:
        parts += [chr(int(one.attrib["code"], 16)), one.tail or ""]
    return "".join(parts)


@given(HOSTILE, st.integers(1, 4))
def test_a_memory_within_a_memory_is_read_back(text: str, depth: int) -> None:
    for _ in range(depth):
        nested = serialize([text, ""], text)
        assert deserialize(nested) == Memory((text, ""), text)
        text = nested


@given(HOSTILE, st.integers(0, 20_000))
@settings(max_examples=20, deadline=None)
def test_a_long_text_is_read_back(text: str, times: int) -> None:
    long = f"{text * (times // (len(text) + 1))}{'word ' * times}"
    assert deserialize(serialize([long], long)) == Memory((long,), long)


def test_what_would_be_too_long_to_be_read_back_is_not_written() -> None:
    said = "x" * MEMORY_CHARS_MAX
    with pytest.raises(ValueError, match="at most 16777216 characters, not"):
        serialize([said], "")
    with pytest.raises(ValueError, match="at most 16777216 characters, not"):
        deserialize(f"<memory>{said}")


def test_no_text_and_no_message_are_read_as_such() -> None:
    assert deserialize(serialize([], "")) == Memory((), "")
    assert deserialize(serialize([""], "")) == Memory(("",), "")
    short = "<memory> <messages/>\n <context/></memory>\n"
    assert deserialize(short) == Memory((), "")


def test_space_between_elements_is_nothing_and_within_them_is_said() -> None:
    pretty = """<memory>
      <messages>
        <message>  user: Hi &#x26; &quot;bye&quot; </message>
      </messages>
      <context> a </context>
    </memory>"""
    assert deserialize(pretty) == Memory(('  user: Hi & "bye" ',), " a ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "<memory> is missing"),
        ("<memory></memory>", "<messages> is missing"),
        ("<memory><messages></messages></memory>", "<context> is missing"),
        ("<memory><context></context></memory>", "<messages> is missing"),
        ("<memory><messages><message>a</messages><context/></memory>", "</message> is missing"),
        ("<memory><messages>words<message>a</message></messages>", "<message> is missing"),
        ("<memory><messages/><context>a", "</context> is missing"),
        ("<memory><messages/><context>a < b</context></memory>", "</context> is missing"),
        ("<memory><messages/><context>&nbsp;</context></memory>", "&nbsp; is unknown"),
        ("<memory><messages/><context>&#1114112;</context></memory>", "no character 1114112"),
        ("<memory><messages/><context>\0</context></memory>", "XML has not"),
        ("<memory><messages/><context/></memory>more", "more after </memory>"),
        ("<memory><messages/><context/>", "</memory> is missing"),
    ],
)
def test_what_is_no_memory_is_turned_down(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        deserialize(text)


@given(st.text())
def test_whatever_else_is_read_is_a_clear_no(text: str) -> None:
    with pytest.raises(ValueError, match="character"):
        deserialize(f"{text}<message>")
