"""Which MCP servers there are: the operator's file, read and checked at the start."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from app.mcp_config import HttpServer, StdioServer, servers_of
from app.settings import BadSetting, load

FILES: dict[str, Any] = {"command": "mcp-files", "args": ["/srv"]}


def text_of(**servers: Any) -> str:
    return json.dumps({"mcpServers": servers})


def test_servers_are_read_as_other_clients_write_them() -> None:
    web = {"type": "http", "url": "https://mcp.example.com/mcp", "headers": {"X-Key": "k"}}
    off = {"command": "mcp-off", "disabled": True}
    found = servers_of(text_of(files=FILES, web=web, off=off), {})
    assert found == {
        "files": StdioServer(command="mcp-files", args=["/srv"]),
        "web": HttpServer(url="https://mcp.example.com/mcp", headers={"X-Key": "k"}),
    }


def test_a_file_says_the_same_as_the_text_in_it(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text(text_of(files=FILES))
    assert servers_of(str(path), {}) == servers_of(text_of(files=FILES), {})


def test_secrets_may_stay_in_variables() -> None:
    given = {"command": "x", "args": ["${HOME}/a", "${B:-b}"], "env": {"KEY": "${KEY}"}}
    (found,) = servers_of(text_of(x=given), {"HOME": "/me", "KEY": "s3cret"}).values()
    assert isinstance(found, StdioServer)
    assert (found.args, found.env) == (["/me/a", "b"], {"KEY": "s3cret"})
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("gated", "expected"),
    [(False, [False, False]), (True, [True, True]), (["write"], [False, True])],
)
def test_the_operator_says_which_tools_need_approval(gated: Any, expected: list[bool]) -> None:
    server = servers_of(text_of(x={**FILES, "requires_approval": gated}), {})["x"]
    assert [server.gates("read"), server.gates("write")] == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "cannot read []"),
        ("{}", "must be a JSON object such as"),
        ('{"mcpServers": []}', "must be a JSON object such as"),
        ("/nowhere/mcp.json", "cannot read /nowhere/mcp.json: No such file"),
        (text_of(**{"a__b": FILES}), "server 'a__b': a name is 1 to 32 letters"),
        (text_of(**{"a" * 33: FILES}), "a name is 1 to 32"),
        (text_of(a={}), "server 'a': needs either a command or a url"),
        (text_of(a={"command": "x", "url": "http://x"}), "either a command or a url"),
        (text_of(a={"command": ["x"]}), "server 'a': command: Input should be a valid string"),
        (text_of(a={"command": "x", "arguments": []}), "arguments: Extra inputs are not"),
        (text_of(a={"command": "x", "args": ["a\0b"]}), "args.0: the character NUL"),
        (text_of(a={"url": "ftp://x"}), "server 'a': url: "),
        (text_of(a={"type": "sse", "url": "http://x"}), "only streamable HTTP"),
        (text_of(a={"command": "x", "env": {"A": "${NONE}"}}), "the variable NONE is not set"),
        (text_of(**{f"a{n}": FILES for n in range(65)}), "at most 64 servers, not 65"),
    ],
)
def test_what_cannot_be_used_is_said_at_the_start(text: str, words: str) -> None:
    with pytest.raises(BadSetting) as refused:
        load(mcp_servers=text)
    assert str(refused.value).startswith("EVERLOG_MCP_SERVERS: ")
    assert words in str(refused.value)


def test_what_is_said_repeats_no_secret() -> None:
    given = {"url": "s3cret", "headers": {"X": ["s3cret"]}}
    with pytest.raises(BadSetting) as refused:
        load(mcp_servers=text_of(a=given))
    assert "s3cret" not in str(refused.value)


def test_the_readmes_example_can_be_used() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (example,) = re.findall(r"^```json\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    found = servers_of(example, {"WEB_KEY": "k"})
    assert [type(one) for one in found.values()] == [StdioServer, HttpServer]
    assert found["files"].gates("write_file")
