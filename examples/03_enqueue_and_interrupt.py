"""Send while the model is still busy: wait for your turn, or take it.

`on_busy` is `reject` (Letta's 409, what streams do by default), `enqueue` (what JSON requests do),
`interrupt` (what was said is kept), `rollback` (the turn is taken back) or `steer` (the message joins
the turn under way at its next step). It goes into the body of any message route.
"""

# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false
import os
import threading
from typing import Any

from letta_client import ConflictError, Letta

client = Letta(base_url=os.environ.get("LETTA_BASE_URL", "http://127.0.0.1:8283"))
agent = client.agents.create(name="busy", model="demo/steady")
conversation = client.conversations.create(agent_id=agent.id)


def say(words: str, on_busy: str, begun: threading.Event | None = None) -> None:
    """Send a message and wait for its end."""
    for frame in client.conversations.messages.create(
        conversation.id,
        messages=[{"role": "user", "content": words}],
        extra_body={"on_busy": on_busy},
    ):
        if begun is not None:
            begun.set()
        if frame.message_type == "stop_reason":
            print(f"{words!r} ended with {frame.stop_reason}")


begun = threading.Event()
first = threading.Thread(target=say, args=("First.", "reject", begun))
first.start()
begun.wait()
try:
    say("Refused.", "reject")
except ConflictError as error:
    print("busy with", error.body["run_id"])  # type: ignore[index]

queued = threading.Event()
patient = threading.Thread(target=say, args=("When you are done.", "enqueue", queued))
patient.start()
queued.wait()
waiting: Any = client.get(f"/v1/conversations/{conversation.id}/queue", cast_to=object)
print("waiting:", [one["content"] for one in waiting])
say("Stop, this is urgent.", "interrupt")
first.join()
patient.join()

for message in client.conversations.messages.list(conversation.id, order="asc"):
    if message.message_type == "user_message":
        print("asked:", message.content)
