"""The Run Admin API and IAP's keys, as the functions read them. No sockets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from werkzeug.datastructures import Headers

from emulator.front_end.authority import Authority
from emulator.front_end.exchange import Message
from emulator.front_end.platform_apis import IAP_KEYS, PlatformApis
from emulator.front_end.services import Ingress, Service, Services

NAME = "projects/p/locations/us-central1/services/console"


@pytest.fixture(name="services")
def _services() -> Services:
    services = Services("p", "us-central1")
    services.add([Service("console", "https://c.run.app", Ingress.ALL, frozenset({"user:b@x.y", "user:a@x.y"}))])
    return services


@pytest.fixture(name="apis")
def _apis(services: Services) -> PlatformApis:
    return PlatformApis(services, Authority())


def get(apis: PlatformApis, path: str, method: str = "GET") -> tuple[int, Any]:
    """Return status and JSON of an answer."""
    answer = apis(Message(method, path, Headers(), b"", "127.0.0.1"))
    return answer.status, json.loads(answer.body)


def test_a_service_and_its_policy(apis: PlatformApis) -> None:
    """False members are left out, as the API does."""
    shown = {"name": NAME, "uri": "https://c.run.app", "ingress": "INGRESS_TRAFFIC_ALL"}
    assert get(apis, f"/v2/{NAME}") == (200, shown)
    binding = {"role": "roles/run.invoker", "members": ["user:a@x.y", "user:b@x.y"]}
    status, policy = get(apis, f"/v2/{NAME}:getIamPolicy?options.requestedPolicyVersion=3")
    assert (status, policy["bindings"]) == (200, [binding])


def test_changes_show_at_once(apis: PlatformApis, services: Services) -> None:
    """The front end and the API have one state."""
    services.open("console")
    services.change("console", invoker_iam_disabled=True, iap_enabled=True, custom_audiences=("https://x",))
    _, policy = get(apis, f"/v2/{NAME}:getIamPolicy")
    assert "allUsers" in policy["bindings"][0]["members"]
    _, shown = get(apis, f"/v2/{NAME}")
    assert shown["invokerIamDisabled"] is True
    assert shown["iapEnabled"] is True
    assert shown["customAudiences"] == ["https://x"]
    services.change("console", invokers=frozenset())
    assert get(apis, f"/v2/{NAME}:getIamPolicy")[1]["bindings"] == []


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        (f"/v2/{NAME}x", "GET", 404),
        ("/v2/projects/p/locations/europe-west1/services/console", "GET", 404),
        (f"/v2/{NAME}:setIamPolicy", "GET", 404),
        ("/v1/x", "GET", 404),
        (f"/v2/{NAME}", "DELETE", 405),
        (f"/v2/{NAME}:getIamPolicy", "POST", 405),
    ],
)
def test_other_requests(apis: PlatformApis, path: str, method: str, status: int) -> None:
    """Errors have the shape of Google's."""
    code, answer = get(apis, path, method)
    assert (code, answer["error"]["code"]) == (status, status)


def test_it_can_fail(apis: PlatformApis) -> None:
    """The keys stay readable; reads are counted."""
    apis.failing = 503
    assert get(apis, f"/v2/{NAME}")[1]["error"]["status"] == "UNAVAILABLE"
    status, keys = get(apis, IAP_KEYS)
    assert status == 200
    assert "BEGIN PUBLIC KEY" in next(iter(keys.values()))
    assert apis.reads == 1
