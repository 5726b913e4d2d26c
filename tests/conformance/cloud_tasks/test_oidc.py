"""The bearer token of a delivery, verified like in an application."""

from __future__ import annotations

import time
from typing import Any

import pytest
import requests
from google.auth import exceptions as auth_exceptions
from google.auth import jwt
from google.auth.transport import requests as auth_requests
from google.cloud import tasks_v2
from google.oauth2 import id_token

from emulator.clock import SteppedClock
from emulator.cloud_tasks import CloudTasksServer
from tests.conformance.cloud_tasks.support import LOCATION, START, Target
from tests.waiting import until

EMAIL = "scheduler-invoker@my-scheduler.iam.gserviceaccount.com"


def deliver(client: tasks_v2.CloudTasksClient, queue: str, target: Target, path: str, **fields: Any) -> str:
    """Deliver a task and return its Authorization header."""
    client.create_task(parent=queue, task={"http_request": {"url": target.url(path), **fields}})
    until(lambda: bool(target.at(path)), "the delivery")
    return target.at(path)[0].headers.get("authorization", "")


def verify(live: CloudTasksServer, authorization: str, audience: str) -> dict[str, Any]:
    """Verify a token with the library that the functions use."""
    scheme, _, token = authorization.partition(" ")
    assert scheme == "Bearer"
    with requests.Session() as session:
        session.trust_env = False
        request = auth_requests.Request(session)
        return dict(id_token.verify_token(token, request, audience=audience, certs_url=live.certs_url))


def test_the_token_verifies_with_the_published_keys(
    live: CloudTasksServer, client: tasks_v2.CloudTasksClient, queue: str, target: Target
):
    """`google.oauth2.id_token` accepts it for its audience, and returns the account."""
    token = {"service_account_email": EMAIL, "audience": "https://on-task.example"}
    claims = verify(live, deliver(client, queue, target, "/a", oidc_token=token), "https://on-task.example")
    assert (claims["iss"], claims["email"], claims["email_verified"]) == ("https://accounts.google.com", EMAIL, True)
    assert claims["exp"] - claims["iat"] == 3600
    assert abs(claims["iat"] - time.time()) < 60


def test_the_audience_defaults_to_the_full_target_url(
    live: CloudTasksServer, client: tasks_v2.CloudTasksClient, queue: str, target: Target
):
    """The URL includes the query; another audience is refused."""
    authorization = deliver(client, queue, target, "/b?c=d", oidc_token={"service_account_email": EMAIL})
    assert verify(live, authorization, target.url("/b?c=d"))["aud"] == target.url("/b?c=d")
    with pytest.raises(auth_exceptions.InvalidValue):
        verify(live, authorization, target.url("/b"))


def test_a_forged_signature_is_refused(
    live: CloudTasksServer, client: tasks_v2.CloudTasksClient, queue: str, target: Target
):
    """The published keys really verify the signature."""
    authorization = deliver(client, queue, target, "/f", oidc_token={"service_account_email": EMAIL})
    head, _, signature = authorization.rpartition(".")
    flipped = signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]
    with pytest.raises((auth_exceptions.MalformedError, ValueError)):
        verify(live, f"{head}.{flipped}", target.url("/f"))


def test_a_token_replaces_the_creators_authorization_header(
    live: CloudTasksServer, client: tasks_v2.CloudTasksClient, queue: str, target: Target
):
    """A token replaces the creator's header. Without a token the header is sent unchanged."""
    headers = {"authorization": "Basic eDp5"}
    fields = {"headers": headers, "oidc_token": {"service_account_email": EMAIL}}
    verify(live, deliver(client, queue, target, "/with", **fields), target.url("/with"))
    assert deliver(client, queue, target, "/without", headers=headers) == "Basic eDp5"
    assert deliver(client, queue, target, "/none") == ""


def test_token_times_follow_the_injected_clock(
    manual: CloudTasksServer, manual_client: tasks_v2.CloudTasksClient, clock: SteppedClock, target: Target
):
    """`iat` is the clock's second, independent of the machine's time."""
    queue = manual.create_queue(f"{LOCATION}/queues/q")
    clock.advance(5 * 10**9)
    request = {"url": target.url(), "oidc_token": {"service_account_email": EMAIL}}
    name = manual_client.create_task(parent=queue, task={"http_request": request}).name
    manual.dispatch(name)
    claims = jwt.decode(target.received[0].headers["authorization"].removeprefix("Bearer "), verify=False)
    assert claims["iat"] == START // 10**9 + 5


def test_keys_are_published_in_both_shapes(live: CloudTasksServer):
    """A JWK set is at v3, certificates are at v1, with one key ID; other paths are 404."""
    with requests.Session() as session:
        session.trust_env = False
        keys = session.get(live.jwks_url, timeout=10)
        certificates = session.get(live.certs_url, timeout=10)
        missing = session.get(live.certs_url + "/x", timeout=10)
    assert live.jwks_url.endswith("/oauth2/v3/certs")
    assert live.certs_url.endswith("/oauth2/v1/certs")
    assert [key["kid"] for key in keys.json()["keys"]] == list(certificates.json())
    assert all(pem.startswith("-----BEGIN CERTIFICATE-----") for pem in certificates.json().values())
    assert missing.status_code == 404
