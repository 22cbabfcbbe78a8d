"""A file that the original server wrote, if there is one: EVERLOG_LETTA_AF names it."""

import os
from pathlib import Path

import pytest

from tests.agent_files import without_names
from tests.app.serving import serving
from tests.app.test_agent_files_http import exported, imported

FILE = os.environ.get("EVERLOG_LETTA_AF")
CONTENT = b"" if FILE is None else Path(FILE).read_bytes()
pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.skipif(FILE is None, reason="EVERLOG_LETTA_AF names no file"),
]


async def test_a_file_of_the_original_server_comes_over_and_goes_out_again(tmp_path: Path) -> None:
    async with serving(tmp_path / "everlog.db") as server:
        told = await imported(server.http, CONTENT, model="demo/echo")
        assert told["imported"][0]["messages"] > 0
        assert all("tool_ids" in one for one in told["left_out"])
        once = await exported(server.http, told["agent_ids"][0])
        (again,) = (await imported(server.http, once))["agent_ids"]
        assert without_names(await exported(server.http, again)) == without_names(once)
