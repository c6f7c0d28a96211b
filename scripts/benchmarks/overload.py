"""More connections than a server serves well: what each waits, and who is refused."""

import time
from contextlib import ExitStack

from benchmarks.contenders import OURS
from benchmarks.load import WARM, fill, post, slices
from benchmarks.measuring import Result, Row, Run, measurement
from benchmarks.receiving import MOST, SETTINGS

CONNECTIONS = (64, 256, 1024, 4096)


@measurement("callbacks over ever more connections: what they wait, and who is refused", whole=True, tenths=(10, 5, 5))
async def overload(run: Run) -> Result:
    home = run.directory / "overload"
    home.mkdir()
    (home / "receiver.toml").write_text(SETTINGS)
    most = CONNECTIONS[-1] if run.size > 5 else CONNECTIONS[1]
    counts = [WARM, *(MOST * run.size // 10 for each in CONNECTIONS if each <= most)]
    warm, *measured = slices(home, 0, counts)
    fill(home / "receiver.db", range(sum(counts)), time.time())
    seen, rows = {}, list[Row]()
    with ExitStack() as stack:
        port = OURS.start(stack, home).port
        post(port, warm, CONNECTIONS[0], 0.5)
        for connections, callbacks in zip(CONNECTIONS, measured, strict=False):
            loaded = post(port, callbacks, connections, run.size / 10)
            seen[str(connections)] = {**loaded._asdict(), "rate": loaded.rate}
            waits = f"p50 {loaded.p50_ms:.0f} ms, p99 {loaded.p99_ms:.0f} ms, slowest {loaded.slowest_ms:.0f} ms"
            remark = f"{waits}, {loaded.refused} refused, {loaded.broken} broken"
            rows.append((f"{connections:,} connections", f"{loaded.rate:,.0f}/s", remark))
    return Result({"connections": seen}, rows)
