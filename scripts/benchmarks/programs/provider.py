"""A provider for which every task has succeeded, and who takes every other POST too. Prints its port."""

import asyncio
import json

import uvloop

RESULT = {"url": "http://127.0.0.1:9/1.png", "outputType": "png"}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            asked = json.loads(await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0])))
            told = {"taskId": asked.get("taskId"), "status": "SUCCESS", "errorCode": "", "errorMessage": ""}
            body = json.dumps({**told, "results": [RESULT], "usage": {}}).encode()
            start = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            writer.write(start % len(body) + body)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


uvloop.run(main())
