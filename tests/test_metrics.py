"""The metrics: all that the manual lists and nothing else; true, closed to strangers, and cheap in a long ledger."""

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml  # type: ignore[import-untyped]
from documents import ROOT, TOPICS, names, rows
from house import ADMIN_TOKEN, API_KEY, MODEL, SECRET, House, open_house
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read
from test_client import RunningServer
from test_prune import Planning

from receiver.model.measures import Meter
from receiver.model.rules import METRICS_KEPT
from receiver.runninghub.measured import MeasuredTransport, operation_of
from receiver.simulator import Fault
from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.engine import SqliteTransaction
from receiver.store.sqlite.store import SqliteStore

T = TypeVar("T")
RULES = ROOT / "scripts" / "deploy" / "prometheus-rules.yml"
LISTED = {names(cells[0])[0]: cells for cells in rows(TOPICS["metrics"])}


def told(families: dict[str, Metric], name: str, /, **labels: str) -> float:
    """The value of one sample."""
    (value,) = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return value


async def scraped(house: House) -> dict[str, Metric]:
    house.clock.now += METRICS_KEPT
    answer = await house.api.get("http://receiver.test/metrics")
    assert answer.status_code == 200
    return {family.name: family for family in read(answer.text)}


@pytest.fixture
async def exercised(tmp_path: Path) -> AsyncIterator[House]:
    """A house in which tasks succeeded and failed, callbacks came twice, were missed and were none."""
    async with open_house(tmp_path) as house:
        for faults in ((), (Fault.FAILED,), (Fault.DUPLICATE,)):
            await house.submit(*faults)
            await house.settle()
        await house.advance(600)
        await house.http.post("/callbacks/none")
        await house.api.get("/account")
        await house.http.get("/nowhere")
        yield house


# ---------------------------------------------------------------- the list


async def test_an_exercised_server_tells_all_that_is_listed_and_nothing_else(exercised: House) -> None:
    families = await scraped(exercised)
    there = {f"{name}_total" if family.type == "counter" else name: family.type for name, family in families.items()}
    assert there == {name: cells[1] for name, cells in LISTED.items()}


async def test_the_labels_are_those_that_are_listed(exercised: House) -> None:
    families = await scraped(exercised)
    for name, cells in LISTED.items():
        listed = set(names(cells[2]))
        samples = families[name.removesuffix("_total")].samples
        assert {frozenset(sample.labels.keys() - {"le"}) for sample in samples} <= {frozenset(listed)}, name


async def test_what_is_told_is_what_happened(exercised: House) -> None:
    families = await scraped(exercised)
    assert told(families, "receiver_tasks_submitted_total", kind="model") == 3
    assert told(families, "receiver_tasks_ended_total", kind="model", end="succeeded") == 2
    assert told(families, "receiver_tasks_ended_total", kind="model", end="failed") == 1
    assert told(families, "receiver_task_run_seconds_count", kind="model") == 3
    assert told(families, "receiver_callbacks_received_total", purpose="submit") == 3
    assert told(families, "receiver_callbacks_repeated_total", purpose="submit") == 1
    assert told(families, "receiver_callbacks_refused_total", reason="token") == 1
    assert told(families, "receiver_callback_delay_seconds_count") == 3
    assert told(families, "receiver_action_tries_total", name="on-success", outcome="done", category="") == 2
    assert told(families, "receiver_provider_requests_total", operation="submit", outcome="answered") == 3
    assert told(families, "receiver_provider_request_seconds_count", operation="query") >= 3
    assert told(families, "receiver_http_requests_total", route="/callbacks/{token}", method="POST", status="404") == 1
    assert told(families, "receiver_http_requests_total", route="/api/account", method="GET", status="200") == 1
    assert told(families, "receiver_http_requests_total", route="other", method="GET", status="404") == 1
    assert told(families, "receiver_store_writable") == 1
    assert told(families, "receiver_balance", unit="coins") > 0
    assert told(families, "receiver_tasks", state="queued") == 0


async def test_what_waits_is_told_with_its_age(house: House) -> None:
    await house.api.post("/tasks", json={"kind": "workflow", "target": "1", "input": {}})
    house.clock.now += 100
    families = await scraped(house)
    assert told(families, "receiver_tasks", state="queued") == 1
    assert told(families, "receiver_task_oldest_seconds", state="queued") == 100 + METRICS_KEPT


async def test_what_is_kept_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await house.submit()
        await house.advance(600)
        before = await scraped(house)
    async with open_house(tmp_path) as house:
        after = await scraped(house)
    kept = [name.removesuffix("_total") for name, cells in LISTED.items() if cells[3] == "yes"]
    for name in kept:
        assert after[name].samples == before[name].samples, name


# ---------------------------------------------------------------- the door


async def test_metrics_need_the_admin_token(house: House) -> None:
    for headers in ({}, {"authorization": "Bearer wrong"}):
        answer = await house.http.get("/metrics", headers=headers)
        assert answer.status_code == 401
        assert "receiver_" not in answer.text
    assert (await house.api.post("http://receiver.test/metrics")).status_code == 405


async def test_public_metrics_need_no_token(tmp_path: Path) -> None:
    async with open_house(tmp_path, environment={"RECEIVER_METRICS_PUBLIC": "true"}) as house:
        assert (await house.http.get("/metrics")).status_code == 200


async def test_a_snapshot_is_told_again_for_a_few_seconds(house: House) -> None:
    async def answers() -> float:
        text = (await house.api.get("http://receiver.test/metrics")).text
        return told({each.name: each for each in read(text)}, "receiver_tasks", state="queued")

    assert await answers() == 0
    await house.api.post("/tasks", json={"kind": "workflow", "target": "1", "input": {}})
    assert await answers() == 0
    house.clock.now += METRICS_KEPT
    assert await answers() == 1
    house.clock.now -= 10_000  # a clock that is set back keeps no old snapshot alive
    assert (await house.api.get("http://receiver.test/metrics")).status_code == 200


async def test_who_asks_for_openmetrics_gets_it(exercised: House) -> None:
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = await exercised.api.get("http://receiver.test/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert len(list(read_openmetrics(answer.text))) == len(LISTED)  # type: ignore[no-untyped-call]


async def test_no_metric_tells_a_secret_or_what_came_from_outside(exercised: House) -> None:
    house = exercised
    await house.http.get("/sentinel-path?key=sentinel-query")
    await house.http.request("SENTINEL", "/healthz")
    await house.api.get("/tasks/sentinel-task")
    await house.api.get("/models/sentinel/model")
    text = (await house.api.get("http://receiver.test/metrics")).text
    tasks = (await house.api.get("/tasks")).json()["items"]
    hidden = [ADMIN_TOKEN, API_KEY, SECRET, MODEL, "http://", "sentinel", "SENTINEL", *(task["id"] for task in tasks)]
    assert [each for each in hidden if each in text] == []


@pytest.mark.slow
def test_a_server_of_its_own_is_scraped(server: RunningServer) -> None:
    headers = {"authorization": f"Bearer {server.token}"}
    answer = httpx.get(f"{server.url}/metrics", headers=headers)
    assert {f"{family.name}_total" if family.type == "counter" else family.name for family in read(answer.text)} == set(
        LISTED
    )


# ---------------------------------------------------------------- what it costs


class Planned(SqliteStore):
    """Keeps the plans of what it reads."""

    plans: dict[str, list[str]]

    async def read(self, work: Callable[[Transaction], T]) -> T:
        def planned(tx: Transaction) -> T:
            assert isinstance(tx, SqliteTransaction)
            self.plans = {}
            return work(Planning(tx.connection, self.plans))

        return await super().read(planned)


async def test_nothing_in_a_scrape_goes_through_a_table_that_grows(tmp_path: Path) -> None:
    store = Planned(tmp_path / "receiver.db")
    await store.open()
    await store.figures()
    await store.close()
    scans = {line for plan in store.plans.values() for line in plan if line.startswith("SCAN")}
    of_few_rows = {"task_counts", "definitions", "counters", "action_counts"}
    assert {line.split()[1] for line in scans} <= of_few_rows | {"alerts"}
    assert [line for line in scans if "alerts" in line] == ["SCAN alerts USING INDEX alerts_open"]  # the open ones
    assert len(store.plans) <= 10


async def test_counts_of_tasks_are_those_of_the_table(exercised: House, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "receiver.db")
    counted = dict(connection.execute("select state, count(*) from tasks group by state").fetchall())
    kept = dict(connection.execute("select state, n from task_counts where n <> 0").fetchall())
    connection.close()
    assert kept == counted


# ---------------------------------------------------------------- the provider


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/openapi/v2/query", "query"),
        ("/openapi/v2/rhart-video/image", "submit"),
        ("/openapi/v2/price-preview/rhart-video/image", "price"),
        ("/task/openapi/ai-app/run", "submit"),
        ("/openapi/v2/media/upload/binary", "upload"),
        ("/somewhere/else", "other"),
    ],
)
def test_a_request_is_named_after_its_operation(path: str, operation: str) -> None:
    assert operation_of(path) == operation


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (httpx.Response(200), "answered"),
        (httpx.Response(429), "http_429"),
        (httpx.ConnectTimeout("slow"), "not_sent"),
        (httpx.ReadTimeout("silent"), "unanswered"),
    ],
)
async def test_what_comes_of_a_request_is_counted(answer: httpx.Response | Exception, outcome: str) -> None:
    def reply(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    meter = Meter()
    transport = MeasuredTransport(httpx.MockTransport(reply), meter, lambda: 7.0, lambda: 1.0)
    async with httpx.AsyncClient(transport=transport) as http:
        with suppress(httpx.HTTPError):
            await http.post("http://hub.test/task/openapi/cancel")
    assert meter.asked == {("cancel", outcome): 1}
    assert meter.asking == 0
    assert meter.answered_at == (None if isinstance(answer, Exception) else 7.0)


# ---------------------------------------------------------------- the rules


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_eight_rules_are_shipped_each_with_a_severity_and_a_sentence() -> None:
    assert len({rule["alert"] for rule in rules()}) == 8
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_is_about_metrics_and_labels_that_are_listed(rule: dict[str, Any]) -> None:
    used = re.findall(r"(receiver_\w+)(?:\{(\w+))?", rule["expr"])
    assert used
    for name, label in used:
        assert name in LISTED
        assert not label or label in names(LISTED[name][2])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    checked = subprocess.run(["promtool", "check", "rules", "--lint=all", str(RULES)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert json.dumps("8 rules found")[1:-1] in checked.stdout
