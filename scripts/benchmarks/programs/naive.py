"""What one would write first: the signature checked, the JSON read, a row inserted with sqlite-utils and committed."""

import hashlib
import json
import sys
import threading
import time

from itsdangerous import URLSafeSerializer
from sqlite_utils import Database
from starlette.concurrency import run_in_threadpool

from benchmarks.programs.serving import serve

local = threading.local()
signed = URLSafeSerializer(
    sys.argv[3], salt="receiver.callback.v1", signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"}
)


def opened() -> Database:
    if not hasattr(local, "db"):
        local.db = Database(sys.argv[2])
        local.db.conn.execute("pragma synchronous = full")
        local.db.conn.execute("pragma busy_timeout = 30000")
    db: Database = local.db
    return db


def insert(token: str, body: bytes) -> None:
    task, purpose = signed.loads(token)
    row = {
        "digest": hashlib.sha256(body).hexdigest(),
        "task": task,
        "purpose": purpose,
        "named": json.loads(body)["taskId"],
        "received_at": time.time(),
        "body": body,
    }
    opened().table("deliveries").insert(row, ignore=True)


async def store(token: str, body: bytes) -> None:
    await run_in_threadpool(insert, token, body)


first = opened()
first.enable_wal()
first.table("deliveries").create(
    {"digest": str, "task": str, "purpose": str, "named": str, "received_at": float, "body": bytes}, pk="digest"
)
serve(store)
