"""Inserts each body into PostgreSQL, in a transaction of its own."""

import hashlib
import sys

import asyncpg

from benchmarks.programs.serving import serve

TABLE = """
create table if not exists deliveries (
  id bigserial primary key, token text not null, digest bytea not null unique, body bytea not null,
  received_at timestamptz not null default now()
)
"""
INSERT = "insert into deliveries (token, digest, body) values ($1, $2, $3) on conflict do nothing"
pools: list[asyncpg.Pool] = []


async def connect() -> None:
    pools.append(await asyncpg.create_pool(host="127.0.0.1", port=int(sys.argv[2]), user="bench", database="postgres"))
    await pools[0].execute(TABLE)


async def store(token: str, body: bytes) -> None:
    await pools[0].execute(INSERT, token, hashlib.sha256(body).digest(), body)


serve(store, connect)
