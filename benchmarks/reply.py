"""What `project_list` is compared with: a bare aiohttp WebSocket that answers each message with as many bytes.

`python -m benchmarks.reply BYTES` prints its port, and ends with its input.
"""

import asyncio
import sys

import uvloop
from aiohttp import WSMsgType, web


async def serve(size: int) -> None:
    """Answer until the input ends."""
    reply = b'"' + b"x" * (size - 2) + b'"'

    async def answer(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_frame(reply, WSMsgType.TEXT)
        return socket

    application = web.Application()
    application.router.add_get("/ws", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
