"""The command of the CLI's hooks: passes a hook's input to the server, and the server's answer to the CLI.

Run as a file, with `python -I -S hook_relay.py DIRECTORY EVENT`, where DIRECTORY is the server's data directory. It
imports nothing of the package and little of the standard library, since each permission request of a terminal waits for
its start: `socket` and `json` alone would take longer than all the rest. Whatever fails, it prints nothing and exits
with 0, so that the CLI shows its own dialog as if there were no hook.
"""

import os
import sys
from _socket import AF_UNIX, SHUT_RDWR, SOCK_STREAM, socket

SOCKET = "hook.sock"
MAX_INPUT = 4 * 1024 * 1024
MAX_ANSWER = 1024 * 1024
_SEND_SECONDS = 2.0
_LOOK_SECONDS = 5.0


def main(directory: str, event: str) -> None:
    """Send the input; for a `PermissionRequest` wait for the answer, while the CLI lives."""
    entry = os.environ.get("CLAUDE_CODE_ENTRYPOINT", "")
    if "POCKET_AGENT_PROCESS" in os.environ or entry.startswith("sdk"):
        return  # an agent of the server, or `claude -p`, which has no dialog and would wait for the answer
    # A relative path, since that of a socket is limited to 108 bytes (unix(7)).
    os.chdir(directory)
    connection = socket(AF_UNIX, SOCK_STREAM)
    connection.settimeout(_SEND_SECONDS)
    connection.connect(SOCKET)
    text = _read_all()
    connection.sendall(b"%d\n" % len(text) + text)
    if event == "PermissionRequest":
        _print(_answer(connection))
    else:
        connection.shutdown(SHUT_RDWR)


def _read_all() -> bytes:
    """The hook's input; raises ValueError when it is too long for the server."""
    parts = []
    length = 0
    while part := os.read(0, 65536):
        parts.append(part)
        length += len(part)
        if length > MAX_INPUT:
            raise ValueError
    return b"".join(parts)


def _answer(connection: socket) -> bytes:
    """What the server sends until it closes; empty when the CLI has ended."""
    connection.settimeout(_LOOK_SECONDS)
    cli = int(os.environ.get("CLAUDE_PID") or 0)
    parts = b""
    while len(parts) <= MAX_ANSWER:
        try:
            part = connection.recv(65536)
        except TimeoutError:
            if cli:
                os.kill(cli, 0)
            continue
        if not part:
            return parts
        parts += part
    return b""


def _print(answer: bytes) -> None:
    while answer:
        answer = answer[os.write(1, answer) :]


if __name__ == "__main__":
    try:  # noqa: SIM105 - `contextlib` takes time to import
        main(*sys.argv[1:])
    except Exception:  # noqa: BLE001, S110 - the terminal must not notice
        pass  # nosec B110 - see above
    os._exit(0)
