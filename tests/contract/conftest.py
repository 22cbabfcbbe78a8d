"""One real server for all contract tests, and the real client."""

import json
import sys
from collections.abc import Generator
from pathlib import Path

import httpx2
import pytest
from letta_client import Letta

from tests import mcp_lean
from tests.contract.sent import vending
from tests.databases import TEMPLATE, cluster
from tests.vendor import Vendor
from tests.whole.server import Server, serving


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def base_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[str]:
    where: Path | str = tmp_path_factory.mktemp("contract") / "everlog.db"
    if request.param == "postgres":
        where = cluster().create("contract", TEMPLATE)
    lean = [str(mcp_lean.__file__), str(tmp_path_factory.mktemp("notes"))]
    servers = {"mcpServers": {"lean": {"command": sys.executable, "args": lean}}}
    with serving(
        where, EVERLOG_DEMO_WORD_DELAY_S="0.01", EVERLOG_MCP_SERVERS=json.dumps(servers)
    ) as server:
        yield server.base_url


@pytest.fixture
def client(base_url: str) -> Generator[Letta]:
    with Letta(base_url=base_url, api_key="none", max_retries=0) as letta:
        yield letta


@pytest.fixture
def raw(base_url: str) -> Generator[httpx2.Client]:
    with httpx2.Client(base_url=base_url, timeout=30) as http:
        yield http


@pytest.fixture(scope="session")
def vendor() -> Generator[Vendor]:
    """Run a vendor whose replies are scripted by what it is sent."""
    with vending() as vendor:
        yield vendor


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def sender(
    request: pytest.FixtureRequest, vendor: Vendor, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Server]:
    """Serve with that vendor's models; a test may start it again."""
    where: Path | str = tmp_path_factory.mktemp("sent") / "everlog.db"
    if request.param == "postgres":
        where = cluster().create("sent", TEMPLATE)
    with serving(where, ANTHROPIC_API_KEY="none", ANTHROPIC_BASE_URL=vendor.base_url) as server:
        yield server


@pytest.fixture
def sending(sender: Server) -> Generator[Letta]:
    with Letta(base_url=sender.base_url, api_key="none", max_retries=0) as letta:
        yield letta


@pytest.fixture
def agent_id(client: Letta) -> str:
    return client.agents.create(name="guide", model="demo/echo").id


@pytest.fixture
def conversation_id(client: Letta, agent_id: str) -> str:
    return client.conversations.create(agent_id=agent_id).id
