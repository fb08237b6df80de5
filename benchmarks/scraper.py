"""Asks for a page again and again from a process of its own, and tells when each answer was under way.

Arguments: port, path, count, seconds of rest in between. Prints one line of JSON: pairs of start and end
on the monotonic clock, which all processes of a machine share, in nanoseconds, and the size of an answer.
"""

import http.client
import json
import sys
import time


def main() -> None:
    """Ask and report."""
    port, path, count, rest = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    spans = []
    size = 0
    for _ in range(count):
        time.sleep(rest)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        began = time.monotonic_ns()
        connection.request("GET", path)
        body = connection.getresponse().read()
        spans.append((began, time.monotonic_ns()))
        size = len(body)
        connection.close()
    print(json.dumps({"spans": spans, "size": size}), flush=True)


if __name__ == "__main__":
    main()
