"""An MCP server over stdio that asks the user: its tool `ask` sends an `elicitation/create` and returns the answer.

The tool's arguments are the `params` of that request (MCP 2025-11-25, client/elicitation); with `complete` the server
reports the end of a `url` elicitation once it is accepted.
"""

import json
import sys
from typing import Any

TOOL = {"name": "ask", "description": "Asks the user.", "inputSchema": {"type": "object", "additionalProperties": True}}


def send(**message: Any) -> None:
    """Write one message."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def elicit(number: int, params: dict[str, Any]) -> dict[str, Any]:
    """Ask the user, and wait for the answer."""
    completes = params.pop("complete", False)
    question = f"question-{number}"
    send(id=question, method="elicitation/create", params=params)
    for line in sys.stdin:
        message = json.loads(line)
        if message.get("id") == question and "method" not in message:
            if completes:
                send(method="notifications/elicitation/complete", params={"elicitationId": params["elicitationId"]})
            return {"content": [{"type": "text", "text": json.dumps(message.get("result", message.get("error")))}]}
        if message.get("method") == "notifications/cancelled" and message["params"].get("requestId") == number:
            break
    return {"content": [{"type": "text", "text": "The question was cancelled."}], "isError": True}


def main() -> None:
    """Answer requests until the client closes the input."""
    for line in iter(sys.stdin.readline, ""):
        message = json.loads(line)
        number = message.get("id")
        match message.get("method"):
            case "initialize":
                send(
                    id=number,
                    result={
                        "protocolVersion": message["params"]["protocolVersion"],
                        "capabilities": {"tools": {}},
                        "serverInfo": {"name": "elicitor", "version": "1"},
                    },
                )
            case "tools/list":
                send(id=number, result={"tools": [TOOL]})
            case "tools/call":
                send(id=number, result=elicit(number, message["params"].get("arguments", {})))
            case str() if number is not None:
                send(id=number, error={"code": -32601, "message": "Method not found"})


if __name__ == "__main__":
    main()
