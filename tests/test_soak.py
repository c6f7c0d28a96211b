"""A short soak: everything that can be done to a server and its provider, and then every order is accounted for."""

from pathlib import Path

import pytest
from accounting import Readiness
from hook import Hook
from soaking import soak

from receiver.simulator.outages import Outage

SECONDS = 45.0
"""In which each act of each lane comes once; the calm after it takes some more."""
SEED = 20_261_125

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
async def test_after_everything_that_can_go_wrong_every_order_is_accounted_for(tmp_path: Path) -> None:
    report = await soak(tmp_path, seed=SEED, seconds=SECONDS)
    assert report.unaccounted == {}
    assert report.wrong == []
    server = {"kill", "restart", "file_limit", "locked", "clock_ahead", "clock_behind"}
    provider = {f"outage_{kind}" for kind in Outage}
    targets = {f"target_{mood}" for mood in Hook.MOODS}
    assert (server | targets) - set(report.acts) == set()
    assert len(provider & set(report.acts)) > len(provider) / 2
    assert report.counts["promised"] != 0


async def test_an_answer_of_readyz_that_does_not_fit_what_was_done_is_found() -> None:
    readiness = Readiness()
    readiness.may_say("ready")
    readiness.note(readiness.since, "ready")
    assert readiness.wrong == []
    readiness.note(readiness.since, "disk_full")
    assert readiness.wrong == ["/readyz said disk_full, and should have said ready"]
