"""A stand-in for the CLI, for floods and faults: stream-json in, stream-json out, told what to do by prompts.

A prompt is a list of words, carried out in order, ended by a `result` line:

    lines N [MICROSECONDS]   N numbered `user` lines (with a pause after each)
    long BYTES               one line of so many bytes
    metered FILE N           N numbered lines, at any time as many as the file has bytes
    garbage                  lines that are not JSON, or not UTF-8
    ask TOOL                 a permission request; goes on when it is answered, and prints the answer
    sleep SECONDS            silence
    delta TEXT               a partial text event
    stderr TEXT              a word on standard error
    child                    starts a child that lives long, in the same group
    detached                 starts a child in a session of its own
    stubborn                 ignores SIGTERM and SIGINT from here on
    exit CODE                ends at once, without a result
    crash                    dies by SIGSEGV
    fail                     the result is an error
    noresult                 no result line is printed
    mute                     answers no control request from here on
    result                   a result line at once
    after ...                the words behind it are carried out after the result
    print LINE               a line as it is, without blanks
    leave                    ends after the result, as a CLI that serves one prompt only

A prompt whose uuid was seen before is skipped without a word, as the CLI does. The variable STANDIN_MUTE
makes it mute from its start, STANDIN_VERSION is the version that it tells.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

TYPE_CHECKING = False  # as in `typing`, whose import would take a fifth of each start
if TYPE_CHECKING:
    from typing import Any

SESSION = "11111111-2222-4333-8444-555555555555"


def emit(**line: Any) -> None:
    """Print one line."""
    os.write(1, json.dumps(line).encode() + b"\n")


def ask(tool: str, lines: Any) -> None:
    """Ask for permission and wait for the answer."""
    request_id = f"ask-{time.time_ns()}"
    request = {"subtype": "can_use_tool", "tool_name": tool, "input": {"command": "date"}}
    emit(type="control_request", request_id=request_id, request=request)
    for text in lines:
        if not text.strip():
            continue  # a new server makes sure that its first line stands alone
        message = json.loads(text)
        if message["type"] == "control_response" and message["response"]["request_id"] == request_id:
            emit(type="user", answer=message["response"])
            return
        if message["type"] == "control_request":
            control(message)
            if message["request"]["subtype"] == "interrupt":
                emit(type="control_cancel_request", request_id=request_id)
                raise InterruptedError


def control(message: dict[str, Any]) -> None:
    """Answer a control request."""
    if "STANDIN_MUTE" in os.environ:
        return
    response = {"subtype": "success", "request_id": message["request_id"], "response": {}}
    emit(type="control_response", response=response)


def flood(count: int, pause: float) -> None:
    """Numbered lines, as fast as they go or with pauses."""
    for number in range(1, count + 1):
        emit(type="user", number=number, text="x" * 200)
        if pause:
            time.sleep(pause)


def metered(path: str, count: int) -> None:
    """Numbered lines, never more than the file has bytes."""
    done = 0
    while done < count:
        allowed = min(os.stat(path).st_size, count)  # noqa: PTH116 - pathlib would slow each start
        for number in range(done + 1, allowed + 1):
            emit(type="user", number=number, text="x" * 200)
        done = max(done, allowed)
        time.sleep(0.001)


def finish(session: str, *, failed: bool) -> None:
    """Print the result."""
    subtype = "error_during_execution" if failed else "success"
    emit(type="result", subtype=subtype, is_error=failed, result="done", session_id=session)


def perform(words: list[str], lines: Any) -> tuple[bool, bool]:
    """Carry out a prompt; whether it failed, and whether there is a result."""
    failed, result = False, True
    while words:
        match words.pop(0):
            case "lines":
                count = int(words.pop(0))
                flood(count, int(words.pop(0)) / 1e6 if words and words[0].isdigit() else 0)
            case "long":
                os.write(1, b'{"type":"user","text":"' + b"x" * int(words.pop(0)) + b'"}\n')
            case "metered":
                metered(words.pop(0), int(words.pop(0)))
            case "mute":
                os.environ["STANDIN_MUTE"] = "from here on"
            case "result":
                finish(SESSION, failed=False)
            case "garbage":
                os.write(1, b'not json\n\xff\xfe\n{"half":\n[1,2]\n')
            case "ask":
                ask(words.pop(0), lines)
            case "sleep":
                time.sleep(float(words.pop(0)))
            case "delta":
                delta = {"type": "text_delta", "text": words.pop(0)}
                emit(type="stream_event", event={"type": "content_block_delta", "index": 0, "delta": delta})
            case "stderr":
                os.write(2, words.pop(0).encode() + b"\n")
            case "child" | "detached" as kind:
                import subprocess  # noqa: PLC0415 - would take a quarter of each start

                subprocess.Popen(["sleep", "600"], start_new_session=kind == "detached")
            case "stubborn":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            case "exit":
                sys.exit(int(words.pop(0)))
            case "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "fail":
                failed = True
            case "print":
                os.write(1, words.pop(0).encode() + b"\n")
            case "noresult":
                result = False
            case word:
                emit(type="assistant", message={"role": "assistant", "content": [{"type": "text", "text": word}]})
    return failed, result


def main() -> None:
    """Serve prompts until the input ends."""
    if "--version" in sys.argv:
        print(os.environ.get("STANDIN_VERSION", "9.9.9"), "(stand-in)")
        return
    session = next((arg.partition("=")[2] for arg in sys.argv if arg.startswith("--resume=")), SESSION)
    seen: set[str] = set()
    for text in sys.stdin:
        if not text.strip():
            continue
        message = json.loads(text)
        if message["type"] == "control_request":
            control(message)
        elif message["type"] == "user":
            if message.get("uuid") in seen:
                continue
            seen.add(message.get("uuid") or "")
            seen.discard("")
            words = message["message"]["content"].split()
            leave = "leave" in words
            words = [word for word in words if word != "leave"]
            before = words.index("after") if "after" in words else len(words)
            emit(type="system", subtype="init", session_id=session, model="stand-in", argv=sys.argv[1:])
            try:
                failed, result = perform(words[:before], sys.stdin)
            except InterruptedError:
                failed, result = True, True
            if result:
                finish(session, failed=failed)
            perform(words[before + 1 :], sys.stdin)
            if leave:
                return


if __name__ == "__main__":
    main()
