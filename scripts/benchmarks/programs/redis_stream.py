"""Adds each body to a stream of a Redis that syncs its log before it answers."""

import sys

import redis.asyncio

from benchmarks.programs.serving import serve

client = redis.asyncio.Redis(host="127.0.0.1", port=int(sys.argv[2]), max_connections=10_000)


async def store(token: str, body: bytes) -> None:
    await client.xadd("callbacks", {"token": token, "body": body})


serve(store)
