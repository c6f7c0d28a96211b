"""Callbacks, each the first of its own task and unlike every other, and what posts them as fast as it can."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from servers import SECRET, Ordered, success

from receiver.model.links import Links
from receiver.model.records import Purpose
from receiver.store.sqlite.database import connect, create_private

TASKS = """
with recursive n(i) as (select {first} union all select i + 1 from n where i < {last})
insert into tasks (id, kind, api, target, input, labels, state, created_at, sent_at, submitted_at, provider_task_id,
    callback, check_at, digest)
  select printf('0197b0a3-0000-7000-8000-%012d', i), 'model', 'v2', 'maker-01/model-001', '{{}}', '{{}}', 'submitted',
    {now}, {now}, {now}, cast(1900000000000000000 + i as text), {callback}, {check_at}, zeroblob(32) from n
"""
NEVER = 4e9
PATIENCE = 5.0
"""Seconds for which a load without any answer is none."""
WARM = 3000
"""Callbacks before the first that counts."""


class Loaded(NamedTuple):
    """What became of a load."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    refused: int
    broken: int

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def fill(database: Path, numbers: range, now: float, *, callback: bool = True, check_at: float = NEVER) -> None:
    """Adds tasks that RunningHub has to a ledger, which is made if it is not there."""
    create_private(database)
    connection = connect(database)
    connection.execute("pragma synchronous = off")
    first, last = numbers[0], numbers[-1]
    connection.execute(TASKS.format(first=first, last=last, now=now, callback=int(callback), check_at=check_at))
    connection.close()


def write_callbacks(file: Path, numbers: Sequence[int]) -> None:
    links = Links([SECRET], None)
    with file.open("wb") as lines:
        for number in numbers:
            id_ = f"0197b0a3-0000-7000-8000-{number:012}"
            path = f"/callbacks/{links.token(id_, Purpose.SUBMIT)}"
            task = Ordered(id_, str(1_900_000_000_000_000_000 + number), path)
            lines.write(b"%b %b\n" % (path.encode(), success(task, number)))


class Slice(NamedTuple):
    """A file of callbacks, and how many there are."""

    file: Path
    many: int


def slices(directory: Path, first: int, counts: Sequence[int]) -> Iterator[Slice]:
    """Files of callbacks for tasks one after the other from `first` on."""
    for place, count in enumerate(counts):
        file = directory / f"callbacks-{place}"
        write_callbacks(file, range(first, first + count))
        first += count
        yield Slice(file, count)


def post(port: int, callbacks: Slice, connections: int, seconds: float, path: str | None = None) -> Loaded:
    """Loads a server on this machine from another process. `path` is where it wants them, if not at their own."""
    given = [str(callbacks.file), path or "-"]
    if shutil.which("wrk"):
        script = str(Path(__file__).with_name("load.lua"))
        # It takes whole seconds only, so it is told to go on and is interrupted, which ends it in peace.
        wrk = ["wrk", "-t1", f"-c{connections}", "-d60s", "-s", script, f"http://127.0.0.1:{port}", "--", *given]
        command = ["timeout", "--signal=INT", f"{seconds}", *wrk]
    else:
        command = [sys.executable, "-m", "benchmarks.client", str(port), *given, str(connections), str(seconds)]
    home = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=home, timeout=seconds + 60)
    if done.returncode not in (0, 124) or not done.stdout:
        raise RuntimeError(f"{command[0]} failed: {done.stderr}{done.stdout}")
    loaded = Loaded(**json.loads(done.stdout.strip().splitlines()[-1]))
    if loaded.requests:
        return loaded
    if seconds > PATIENCE:
        raise RuntimeError(f"not one request was answered: {done.stderr}")
    return post(port, callbacks, connections, 4 * seconds, path)  # a machine that is busy needs longer
