"""An agent moves here from a Letta server: its file goes in, and the conversation goes on.

The file is what `client.agents.export_file(agent_id)` gave on the other server; name another one as the
first argument. It names a model that this server does not have, so one is sent along.
"""

# pyright: basic, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
import os
import sys
from pathlib import Path

import httpx2
from letta_client import Letta

BASE = os.environ.get("LETTA_BASE_URL", "http://127.0.0.1:8283")
path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("trail_desk.af")
client = Letta(base_url=BASE)
# Sent again under the same key, it would make no second agent.
moved = client.with_options(default_headers={"Idempotency-Key": path.name}).agents.import_file(
    file=path, model="demo/echo"
)
agent_id = moved.agent_ids[0]
agent = client.agents.retrieve(agent_id, include=["agent.blocks"])
over = moved.imported[0]
print(f"{agent.name} came over with {over['messages']} messages, {over['in_window']} in its window")
for block in agent.blocks:
    print(f"memory: {block.label}: {block.value}")
for words in moved.left_out:
    print("left out:", words)

for said in client.conversations.messages.list("default", agent_id=agent_id, order="asc").items:
    if said.message_type in ("user_message", "assistant_message"):
        print(f"{said.date:%Y-%m-%d %H:%M} {said.message_type}: {str(said.content)[:60]}")

answer = client.agents.messages.create(agent_id, input="Thank you. And back?")
print("it goes on:", answer.messages[-1].content)

why = httpx2.get(f"{BASE}/v1/conversations/{agent_id}/why", params={"q": "hut key"}).json()
print(why["verdict"], "-", why["sentence"])
