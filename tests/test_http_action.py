"""The http action: what is sent, how the answer is judged, what is kept of it, and bodies of a target's own shape."""

import re
from base64 import b64encode
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from time import time
from typing import Any

import msgspec
import pytest
from documents import TOPICS
from house import House, open_house
from standardwebhooks import Webhook, WebhookVerificationError
from targets import Target, silence

from receiver import __version__
from receiver.actions import ActionFailed, Done, Work
from receiver.actions.body import body_problems, filled, secrets_in
from receiver.actions.http import LONGEST_WAIT, Poster
from receiver.actions.settings import HttpDefinition
from receiver.egress.answers import wait_asked
from receiver.egress.client import Egress
from receiver.events import EVENT_FIELDS
from receiver.model.definitions import FailureClass
from receiver.model.errors import SettingsError
from receiver.model.records import Json, JsonObject
from receiver.server.settings import load_settings

TASK = "019a0000-0000-7000-8000-000000000001"
KEY = f"{TASK}:save:1"
NOW = 1_800_000_000.0
SECRET = "whsec_" + b64encode(b"a secret of twenty-four ").decode()
EVENT: JsonObject = {
    "type": "task.succeeded",
    "id": "e",
    "confirmed": True,
    "task": {
        "id": TASK,
        "target": 'a "quoted" model',
        "state": "succeeded",
        "labels": {"project": "ä\nö", "team.name": "blue", "team": "red"},
        "provider_task_id": None,
    },
    "results": [{"url": "https://h/0.mp4?sign=1&x=2", "type": "mp4"}, {"url": None, "text": "{id}"}],
    "error": None,
    "usage": {"coins": 3, "money": 0.25},
    "idempotency_key": KEY,
}


def work(**settings: Any) -> Work:
    settings = {"url": "http://127.0.0.1:9/", "timeout": 5.0, "allow_private": True, **settings}
    definition = HttpDefinition(name="save", **settings)
    return Work(definition=definition, body=EVENT, results=[], task_id=TASK, key=KEY, attempt=1)


async def done(egress: Egress, asked: Work) -> Done:
    return await Poster(egress, lambda: NOW)(asked)


async def failure(egress: Egress, asked: Work) -> ActionFailed:
    with pytest.raises(ActionFailed) as caught:
        await done(egress, asked)
    return caught.value


# ---- what is sent


async def test_the_event_is_posted_with_its_key(egress: Egress, target: Target) -> None:
    headers = {"X-Token": "hush-hush", "Content-Type": "application/cloudevents+json", "Content-Length": "1"}
    asked = work(url=target.give("/hook", b"thanks", "202 Accepted"), headers=headers)
    answer = await done(egress, asked)
    assert answer.detail == {"status": 202, "seconds": 0.0, "answer": "thanks"}
    [request] = target.requests
    assert request.line == "POST /hook HTTP/1.1"
    assert msgspec.json.decode(request.body) == asked.body
    assert request.headers["idempotency-key"] == KEY
    assert request.headers["user-agent"] == f"receiver/{__version__}"
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["x-token"] == "hush-hush"
    assert "webhook-signature" not in request.headers


async def test_a_secret_signs_what_is_posted(egress: Egress, target: Target) -> None:
    asked = work(url=target.give("/hook"), secret=SECRET, headers={"webhook-id": "x", "idempotency-KEY": "x"})
    await Poster(egress, time)(asked)
    [request] = target.requests
    assert Webhook(SECRET).verify(request.body, request.headers) == asked.body
    assert request.headers["webhook-id"] == request.headers["idempotency-key"] == KEY
    assert abs(int(request.headers["webhook-timestamp"]) - time()) < 60


async def test_whoever_changes_what_was_signed_is_found_out(egress: Egress, target: Target) -> None:
    await Poster(egress, time)(work(url=target.give("/hook"), secret=SECRET))
    [request] = target.requests
    moved = {"webhook-timestamp": str(int(request.headers["webhook-timestamp"]) - 1)}
    renamed = {"webhook-id": f"{KEY}x"}
    other = "whsec_" + b64encode(b"another secret of 24 byte").decode()
    for secret, body, changed in [
        (SECRET, request.body.replace(b"succeeded", b"failed"), {}),
        (SECRET, request.body + b" ", {}),
        (SECRET, request.body, moved),
        (SECRET, request.body, renamed),
        (other, request.body, {}),
    ]:
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            Webhook(secret).verify(body, {**request.headers, **changed})


async def test_a_signature_that_is_replayed_later_is_too_old(egress: Egress, target: Target) -> None:
    await Poster(egress, lambda: time() - 301)(work(url=target.give("/hook"), secret=SECRET))
    [request] = target.requests
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(SECRET).verify(request.body, request.headers)


async def test_the_signature_uses_the_clock_it_was_given(egress: Egress, target: Target) -> None:
    await done(egress, work(url=target.give("/hook"), secret=SECRET))
    [request] = target.requests
    expected = Webhook(SECRET).sign(KEY, datetime.fromtimestamp(NOW, UTC), request.body.decode())
    assert request.headers["webhook-timestamp"] == str(int(NOW))
    assert request.headers["webhook-signature"] == expected


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_a", "gehéim"])
async def test_a_secret_that_cannot_sign_is_a_permanent_failure(egress: Egress, target: Target, secret: str) -> None:
    told = await failure(egress, work(url=target.give("/hook"), secret=secret))
    assert told.permanent
    assert target.requests == []


# ---- what an answer must say


DINGTALK = b'{"errcode":310000,"errmsg":"keywords not in content"}'


@pytest.mark.parametrize(
    ("expect", "body", "missing"),
    [
        ({"errcode": 0}, DINGTALK, "errcode = 0"),
        ({"errcode": 0}, b'{"errcode":false}', "errcode = 0"),
        ({"errcode": 0}, b'{"errcode":"0"}', "errcode = 0"),
        ({"errcode": 0}, b'{"errcode":null}', "errcode = 0"),
        ({"errcode": 0}, b'{"code":0}', "errcode = 0"),
        ({"errcode": 0}, b"<html>sign in", "errcode = 0"),
        ({"errcode": 0}, b"[" * 9999, "errcode = 0"),
        ({"errcode": 0}, b"", "errcode = 0"),
        ({"ok": True, "data.0.status": "sent"}, b'{"ok":true,"data":[{"status":"held"}]}', 'data.0.status = "sent"'),
    ],
)
async def test_a_success_that_does_not_say_what_is_expected_is_a_failed_attempt_in_the_service_s_own_words(
    egress: Egress, target: Target, expect: JsonObject, body: bytes, missing: str
) -> None:
    told = await failure(egress, work(url=target.give("/hook", body), expect=expect))
    assert told.reason == f"127.0.0.1 answered 200, but not {missing}: {body.decode()[:300]}"
    assert (told.permanent, told.detail["status"]) == (False, 200)


@pytest.mark.parametrize("body", [b'{"errcode":0,"errmsg":"ok"}', b'{"x":"' + b"y" * 9000 + b'","errcode":0.0}'])
async def test_a_success_that_says_what_is_expected_is_done(egress: Egress, target: Target, body: bytes) -> None:
    assert await done(egress, work(url=target.give("/hook", body), expect={"errcode": 0}))


async def test_what_is_expected_excuses_no_other_status(egress: Egress, target: Target) -> None:
    told = await failure(
        egress, work(url=target.give("/hook", b'{"errcode":0}', "400 Bad Request"), expect={"errcode": 0})
    )
    assert told.permanent


async def test_what_a_service_echoes_is_no_secret_in_the_reason(egress: Egress, target: Target) -> None:
    url = target.give("/hook?key=hush-hush-hush", b'{"errcode":93000,"errmsg":"key=hush-hush-hush"}')
    told = await failure(egress, work(url=url, expect={"errcode": 0}))
    assert "hush" not in told.reason


@pytest.mark.parametrize("expect", ["0", "[0]", "{ errcode = [0] }", "{ a = { b = 0 } }"])
def test_what_is_expected_is_a_table_of_plain_values(tmp_path: Path, expect: str) -> None:
    toml = f'[[actions]]\nname = "x"\nkind = "http"\nurl = "https://x.test"\nexpect = {expect}\n'
    (tmp_path / "receiver.toml").write_text(toml)
    with pytest.raises(SettingsError, match="expect: expected a table of paths"):
        load_settings({}, tmp_path)


# ---- how the answer is judged


@pytest.mark.parametrize(
    ("status", "permanent", "category"),
    [
        ("410 Gone", True, "gone"),
        ("400 Bad Request", True, "refused"),
        ("401 Unauthorized", True, "refused"),
        ("404 Not Found", True, "refused"),
        ("422 Unprocessable Content", True, "refused"),
        ("301 Moved Permanently", True, "refused"),
        ("304 Not Modified", True, "refused"),
        ("408 Request Timeout", False, "unwell"),
        ("425 Too Early", False, "unwell"),
        ("500 Internal Server Error", False, "unwell"),
        ("501 Not Implemented", False, "unwell"),
        ("599 Whatever", False, "unwell"),
        ("429 Too Many Requests", False, "throttled"),
        ("502 Bad Gateway", False, "throttled"),
        ("503 Service Unavailable", False, "throttled"),
        ("504 Gateway Timeout", False, "throttled"),
    ],
)
async def test_the_answer_decides_whether_to_try_again(
    egress: Egress, target: Target, status: str, permanent: bool, category: str
) -> None:
    why = "" if status.startswith("304") else "why"  # which never has a body
    url = target.give("/hook", why.encode(), status=status, Retry_After="9", Location="/elsewhere")
    told = await failure(egress, work(url=url))
    assert (told.permanent, told.category.value) == (permanent, category)
    assert told.retry_after == (None if permanent else 9.0)
    assert told.detail == {"status": int(status[:3]), "seconds": 0.0, "answer": why}
    assert len(target.requests) == 1
    assert ("set `url`" in told.reason) == status.startswith("3")
    assert ("asked us to stop" in told.reason) == status.startswith("410")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True), 90.0),
        ("99999999999", LONGEST_WAIT),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_WAIT),
        ("soon", None),
    ],
)
async def test_the_wish_to_wait_is_honoured_within_bounds(
    egress: Egress, target: Target, value: str, seconds: float | None
) -> None:
    url = target.give("/hook", status="503 Service Unavailable", Retry_After=value)
    assert (await failure(egress, work(url=url))).retry_after == seconds


async def test_a_target_that_is_not_there_is_tried_again(egress: Egress) -> None:
    async with Target().running() as closed:
        pass
    told = await failure(egress, work(url=closed.url("/hook")))
    assert (told.permanent, told.category, told.retry_after) == (False, FailureClass.TRANSPORT, None)


async def test_a_target_that_is_silent_is_tried_again(egress: Egress, target: Target) -> None:
    told = await failure(egress, work(url=target.play("/hook", silence), timeout=0.05))
    assert (told.permanent, told.category) == (False, FailureClass.TIMEOUT)


def test_what_a_failure_says_of_the_target() -> None:
    accusing = {each.value for each in FailureClass if each.accuses_target}
    assert accusing == {"transport", "timeout", "throttled", "unwell", "failed"}
    assert ActionFailed("why").category is FailureClass.FAILED


async def test_the_category_is_kept_with_the_try(house: House) -> None:
    async def throttled(_: Work) -> Done:
        raise ActionFailed("busy", category=FailureClass.THROTTLED, detail={"status": 503})

    house.effect = throttled
    task_id = await house.submit()
    await house.advance(10)
    (action,) = (await house.task(task_id)).actions
    assert action.tries[0].detail == {"status": 503, "category": "throttled", "error": "busy"}


async def test_a_refused_address_names_the_setting(egress: Egress) -> None:
    told = await failure(egress, work(url="http://10.0.0.1/hook?secret", allow_private=False))
    assert (told.permanent, told.category) == (True, FailureClass.REFUSED)
    assert told.reason == "http://10.0.0.1:80 is not a public address; `allow_private = true` lets an action reach it"


async def test_a_header_that_cannot_be_sent_is_a_permanent_failure(egress: Egress, target: Target) -> None:
    told = await failure(egress, work(url=target.url("/"), headers={"X-Name": "日本"}))
    assert told.permanent
    assert "日本" not in told.reason


async def test_an_echoing_receiver_does_not_get_secrets_into_the_detail(egress: Egress, target: Target) -> None:
    echo = (
        f'{{"Authorization": "Bearer hush-hush", "token": "hush-hush", "s": "{SECRET}", "p": "/hooks/T0/B0"}}\x00\xff'
    )
    url = target.give("/hooks/T0/B0", echo.encode("latin-1"))
    asked = work(url=url, secret=SECRET, headers={"Authorization": "Bearer hush-hush"})
    answer = await done(egress, asked)
    assert (
        answer.detail["answer"]
        == '{"Authorization": "[secret]", "token": "[secret]", "s": "[secret]", "p": "[secret]"}\ufffd'
    )


async def test_a_long_answer_is_cut(egress: Egress, target: Target) -> None:
    answer = await done(egress, work(url=target.give("/hook", b"x" * 1_000_000)))
    assert answer.detail["answer"] == "x" * 1024


async def test_a_body_that_breaks_off_does_not_spoil_the_answer(egress: Egress, target: Target) -> None:
    answer = await done(egress, work(url=target.give("/hook", b"o", Content_Length="9")))
    assert answer.detail["status"] == 200


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("999999999999999999", 1000.0),
        (format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True), 90.0),
        (format_datetime(datetime.fromtimestamp(NOW - 90, UTC), usegmt=True), 0.0),
        ("Fri, 15 Jan 2027 08:01:30 -0000", 90.0),
        ("soon", None),
        ("-5", None),
        ("1.5", 1.5),
        ("\u0663", None),
        ("Mon, 99 Foo 2027 99:99:99 GMT", None),
        ("", None),
    ],
)
def test_a_wish_to_wait_is_read_in_both_forms(value: str, seconds: float | None) -> None:
    assert wait_asked({"retry-after": value}, NOW, longest=1000) == seconds


# ---- bodies of a target's own shape


@pytest.mark.parametrize(
    ("template", "made"),
    [
        ({"text": "{task.target} is {task.state}!"}, {"text": 'a "quoted" model is succeeded!'}),
        ("{type}", "task.succeeded"),
        ("{confirmed}", True),
        ("{usage.coins}", 3),
        ("{usage}", {"coins": 3, "money": 0.25}),
        ("{results.0.url}", "https://h/0.mp4?sign=1&x=2"),
        ("{results.0}", {"url": "https://h/0.mp4?sign=1&x=2", "type": "mp4"}),
        ("{error}", None),
        ("{error.message}", None),
        ("{results.7.url}", None),
        ("{results.-1.url}", None),
        ("{results.x}", None),
        ("{results.0.url.x}", None),
        ("{task.labels.nobody}", None),
        ("[{error.message}{task.provider_task_id}{results.7.url}]", "[]"),
        ("{confirmed} {usage.coins} {usage.money} {usage}", 'true 3 0.25 {"coins":3,"money":0.25}'),
        ("{results.1.text}", "{id}"),
        ("<{results.1.text}>", "<{id}>"),
        ("{{id}} {id}", "{id} e"),
        ("{{{id}}}", "{e}"),
        ("{task.labels.team.name} {task.labels.team}", "blue red"),
        ("{task.labels.project}", "ä\nö"),
        (
            [1, 2.5, True, None, "", {"{id}": ["{id}", [{"x": "{idempotency_key}"}]]}],
            [1, 2.5, True, None, "", {"{id}": ["e", [{"x": KEY}]]}],
        ),
    ],
)
def test_the_places_of_a_body_are_filled_from_the_event(template: Json, made: Json) -> None:
    assert filled(template, EVENT) == made


async def test_a_body_arrives_as_it_was_configured_and_signed_as_it_was_sent(egress: Egress, target: Target) -> None:
    template: Json = {"text": "{task.target} ended: {type}", "blocks": [{"n": 1, "labels": "{task.labels}"}]}
    asked = work(url=target.give("/hook"), body=template, secret=SECRET)
    await Poster(egress, time)(asked)
    [request] = target.requests
    made = {
        "text": 'a "quoted" model ended: task.succeeded',
        "blocks": [{"n": 1, "labels": {"project": "ä\nö", "team.name": "blue", "team": "red"}}],
    }
    assert Webhook(SECRET).verify(request.body, request.headers) == made
    assert request.headers["content-type"] == "application/json"
    assert request.headers["idempotency-key"] == KEY


async def test_the_content_type_of_a_body_may_be_replaced(egress: Egress, target: Target) -> None:
    asked = work(url=target.give("/hook"), body={"a": "{id}"}, headers={"content-type": "application/x-my+json"})
    await done(egress, asked)
    assert target.requests[0].headers["content-type"] == "application/x-my+json"
    assert target.requests[0].body == b'{"a":"e"}'


async def test_a_long_value_is_not_cut(egress: Egress, target: Target) -> None:
    long = msgspec.structs.replace(work(url=target.give("/hook"), body=["{id}"]), body={"id": "x" * 300_000})
    await done(egress, long)
    assert len(target.requests[0].body) == 300_004


async def test_the_slack_message_that_the_manual_shows_is_sent(egress: Egress, target: Target, tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n([^`]*tell-slack.*?)```", TOPICS["actions"], re.DOTALL)
    (tmp_path / "receiver.toml").write_text(block)
    (definition,) = load_settings({}, tmp_path).definitions
    assert isinstance(definition, HttpDefinition)
    assert definition.url.startswith("https://hooks.slack.com/")
    here = msgspec.structs.replace(definition, url=target.give("/services/T0", b"ok"), allow_private=True)
    answer = await done(egress, msgspec.structs.replace(work(), definition=here))
    assert answer.detail["answer"] == "ok"
    assert msgspec.json.decode(target.requests[0].body) == {
        "text": 'a "quoted" model: succeeded ',
        "blocks": [
            {
                "type": "section",
                "text": {
                    "type": "mrkdwn",
                    "text": '*a "quoted" model* succeeded \nhttps://h/0.mp4?sign=1&x=2',
                },
            }
        ],
    }


FIELDS = ", ".join(EVENT_FIELDS)


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ('body = "{id}"', "body: expected a table or an array"),
        ("body = 7", "body: expected a table or an array"),
        (
            'body = { text = "{tsk.id} secret" }',
            f"body.text: there is no {{tsk.id}}; a place begins with one of {FIELDS}",
        ),
        ('body = ["{}"]', f"body[0]: there is no {{}}; a place begins with one of {FIELDS}"),
        (
            'body = { a = [1, { b = "{ id }" }] }',
            f"body.a[1].b: there is no {{ id }}; a place begins with one of {FIELDS}",
        ),
        ('body = { a = "{id" }', "body.a: a lone {; write {{ for a brace"),
        ("body = { a = 2026-11-22 }", "body.a: expected text, a number, true or false, got a date"),
        ("body = { a = nan }", "body.a: expected a finite number"),
        ("body = { a = 99999999999999999999 }", "body.a: expected a number of 64 bits"),
    ],
)
def test_a_body_that_cannot_be_filled_is_refused_when_the_settings_are_read(
    tmp_path: Path, toml: str, problem: str
) -> None:
    table = f'[[actions]]\nname = "a"\nkind = "http"\nurl = "https://h.example.com/"\n{toml}\n'
    (tmp_path / "receiver.toml").write_text(table)
    with pytest.raises(SettingsError) as caught:
        load_settings({}, tmp_path)
    assert caught.value.problems == [f"receiver.toml: actions[0] (a): {problem}"]


def test_a_body_belongs_to_http_alone(tmp_path: Path) -> None:
    table = '[[actions]]\nname = "a"\nkind = "download"\nbody = { a = "b" }\n'
    (tmp_path / "receiver.toml").write_text(table)
    with pytest.raises(SettingsError, match="body: does not belong to kind download"):
        load_settings({}, tmp_path)


async def test_a_place_may_begin_with_any_field_that_an_action_really_gets(house: House) -> None:
    await house.submit()
    await house.advance(300)
    assert tuple(house.effects[0].body) == EVENT_FIELDS
    assert body_problems([f"{{{field}}}" for field in EVENT_FIELDS]) == []


async def test_the_secrets_in_a_body_are_not_kept_when_the_target_echoes_them(egress: Egress, target: Target) -> None:
    body: Json = {"api_key": "hush-hush", "inner": [{"user_token": "whisper"}], "text": "shown-text", "token": "{id}"}
    assert secrets_in(body) == ["hush-hush", "whisper"]
    url = target.give("/hook", b"hush-hush whisper shown-text")
    assert (await done(egress, work(url=url, body=body))).detail["answer"] == "[secret] [secret] shown-text"


@pytest.mark.parametrize(
    ("body", "secret"),
    [
        ({"auth": {"secret": {"value": "deep-down"}}}, "deep-down"),
        ({"passwords": [["first-one"]]}, "first-one"),
        ({"bot.token.new": "with-dots"}, "with-dots"),
        ({"token": "br{{ace}}s"}, "br{ace}s"),
    ],
)
def test_a_secret_in_a_body_is_known_as_it_is_sent_and_by_the_tables_around_it(body: Json, secret: str) -> None:
    assert secrets_in(body) == [secret]


async def test_the_secrets_in_a_body_are_masked_wherever_they_would_be_read(tmp_path: Path) -> None:
    toml = '[[actions]]\nname = "a"\nkind = "http"\nurl = "https://h.example.com/"\nbody = { token = "hush-hush" }\n'
    async with open_house(tmp_path, toml) as house:
        assert house.service.redact.text("it said hush-hush") == "it said [secret]"


async def test_a_header_name_that_cannot_be_sent_is_refused_when_the_settings_are_read(tmp_path: Path) -> None:
    table = '[[actions]]\nname = "a"\nkind = "http"\nurl = "https://h.example.com/"\nheaders = { "X Y" = "secret" }\n'
    (tmp_path / "receiver.toml").write_text(table)
    with pytest.raises(SettingsError, match="headers: 'X Y': expected"):
        load_settings({}, tmp_path)
