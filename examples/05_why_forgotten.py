"""A small window fills up and is compacted. Ask what became of a sentence, and bring it back."""

# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false
import os

import httpx2
from letta_client import Letta

BASE = os.environ.get("LETTA_BASE_URL", "http://127.0.0.1:8283")
client = Letta(base_url=BASE)
# Of each summary so little is asked that something has to be left out.
agent = client.agents.create(
    name="guide",
    model="demo/echo",
    context_window_limit=1200,
    compaction_settings={"mode": "sliding_window", "prompt": "Summarise in about 25 words."},
)
conversation = client.conversations.create(agent_id=agent.id)
said = ["The spare key is under the third flower pot."]
said += [f"On day {day} we walked {day * 3} km along the coast." for day in range(1, 12)]

for text in said:
    for frame in client.conversations.messages.create(
        conversation.id,
        messages=[{"role": "user", "content": text}],
        include_compaction_messages=True,
    ):
        if frame.message_type == "summary_message":
            print(
                "compacted:",
                frame.compaction_stats["messages_count_before"],
                "messages, now",
                frame.compaction_stats["messages_count_after"],
            )

with httpx2.Client(base_url=f"{BASE}/v1/conversations/{conversation.id}") as audit:
    why = audit.get("/why", params={"q": "third flower pot"}).json()
    print(why["verdict"], "-", why["sentence"])
    compaction_id = why["occurrences"][0]["compaction_id"]
    lost = audit.get(f"/compactions/{compaction_id}").json()["retained"]["kinds"]
    print("lost:", {kind: found["lost_items"] for kind, found in lost.items()})
    undone = audit.post(f"/compactions/{compaction_id}/undo", params={"force": True}).json()
    print("undone:", undone["messages"], "messages in the window")
    print(audit.get("/why", params={"q": "third flower pot"}).json()["verdict"])
