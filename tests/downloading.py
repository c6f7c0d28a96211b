"""A process that saves one result file, as a server would, and prints what that took.

python downloading.py URL DIRECTORY -> {"size", "sha256", "detail", "extra"}; `extra` is the memory in bytes by
which its peak lies above what it had before.
"""

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext

from receiver.actions import Work
from receiver.actions.download.save import Downloader
from receiver.actions.settings import DownloadDefinition
from receiver.egress.client import Egress
from receiver.model.records import Result

TASK = "019a0000-0000-7000-8000-000000000001"


def memory(name: str) -> int:
    """VmRSS (now) or VmHWM (the most ever), in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


async def main(url: str, directory: str) -> None:
    definition = DownloadDefinition(name="save", timeout=60, directory=directory, allow_private=True)
    work = Work(
        definition=definition,
        body={"task": {"id": TASK}},
        results=[Result(url=url, type="mp4")],
        task_id=TASK,
        key="key",
        attempt=1,
    )
    egress = Egress(tls=SSLContext(PROTOCOL_TLS_CLIENT))
    before = memory("VmRSS")
    done = await Downloader(egress, time.time)(work)
    [file] = done.files
    print(
        json.dumps(
            {
                "size": file.size,
                "sha256": file.sha256,
                "detail": done.detail,
                "extra": memory("VmHWM") - before,
            }
        )
    )
    await egress.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
