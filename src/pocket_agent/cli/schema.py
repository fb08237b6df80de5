"""`pocket-agent schema`: the protocol for programs."""

import json
import sys

from pocket_agent.protocol.json_schema import protocol_schema


def print_schema() -> None:
    """Print one JSON Schema document (draft 2020-12) of all frames."""
    sys.stdout.write(json.dumps(protocol_schema(), indent=2) + "\n")
