"""Have the model call a tool of yours: it asks, you run it, you answer, it goes on."""

# pyright: basic, reportAttributeAccessIssue=false, reportArgumentType=false
import json
import os

from letta_client import Letta

client = Letta(base_url=os.environ.get("LETTA_BASE_URL", "http://127.0.0.1:8283"))
agent = client.agents.create(name="caller", model="demo/echo")
conversation = client.conversations.create(agent_id=agent.id)
TOOLS = [
    {
        "name": "weather",
        "description": "Tells the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]


def weather(city: str) -> str:
    """Look it up."""
    return f"It is sunny in {city}."


answers = []
for frame in client.conversations.messages.create(
    conversation.id,
    messages=[{"role": "user", "content": 'Please call weather {"city": "Ulm"}'}],
    client_tools=TOOLS,
):
    if frame.message_type == "approval_request_message":
        for call in frame.tool_calls or []:
            print("asked for", call.name, call.arguments)
            answers.append(
                {
                    "type": "tool",
                    "tool_call_id": call.tool_call_id,
                    "tool_return": weather(**json.loads(call.arguments)),
                    "status": "success",
                }
            )

for frame in client.conversations.messages.create(
    conversation.id,
    messages=[{"type": "tool_return", "tool_returns": answers}],
    client_tools=TOOLS,
):
    if frame.message_type == "tool_return_message":
        print("returned", frame.tool_return)
    if frame.message_type == "assistant_message":
        print("said", frame.content[:120])
