"""Stop a model that is talking. What it said so far is kept, and the conversation goes on."""

# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false
import os
import threading

from letta_client import Letta

client = Letta(base_url=os.environ.get("LETTA_BASE_URL", "http://127.0.0.1:8283"))
agent = client.agents.create(name="talker", model="demo/steady")
conversation = client.conversations.create(agent_id=agent.id)
talking = threading.Event()
endings: list[str] = []


def talk() -> None:
    """Read a reply until it ends, for whatever reason."""
    for frame in client.conversations.messages.create(
        conversation.id,
        messages=[{"role": "user", "content": "Tell me everything."}],
        stream_tokens=True,
    ):
        if frame.message_type == "assistant_message":
            talking.set()
        if frame.message_type == "stop_reason":
            endings.append(frame.stop_reason)


reader = threading.Thread(target=talk)
reader.start()
talking.wait()
print("cancelled:", client.conversations.cancel(conversation.id))
reader.join()
print("the stream ended with:", endings)

for message in client.conversations.messages.list(conversation.id, order="asc"):
    print(message.message_type, repr(str(getattr(message, "content", ""))[:60]))
