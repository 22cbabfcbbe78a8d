"""Lose the connection in mid-sentence, and go on exactly where it broke.

Every frame has a number. Whoever has seen number n asks for what comes after n: while the run is
under way, when it is over, or years later.
"""

# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false
import os

from letta_client import Letta

client = Letta(base_url=os.environ.get("LETTA_BASE_URL", "http://127.0.0.1:8283"))
agent = client.agents.create(name="guide", model="demo/steady")
conversation = client.conversations.create(agent_id=agent.id)

stream = client.conversations.messages.create(
    conversation.id,
    messages=[{"role": "user", "content": "Tell me something long."}],
    stream_tokens=True,
)
run_id, last, text = "", 0, ""
for frame in stream:
    run_id = getattr(frame, "run_id", None) or run_id
    last = getattr(frame, "seq_id", None) or last
    text += str(frame.content) if frame.message_type == "assistant_message" else ""
    if len(text) > 40:
        break
stream.close()
print(f"Cut off after number {last}: {text!r}")

for frame in client.runs.messages.stream(run_id, starting_after=last):
    text += str(frame.content) if frame.message_type == "assistant_message" else ""

history = client.conversations.messages.list(conversation.id, limit=1)
whole = next(iter(history)).content
print("Joined, it is what the history holds:", text == whole)
