"""The reading of a service's invoker policy: what lets callers in without a check, and what does not."""

from typing import Any

import pytest

from luci_scheduler.core.invoker_policy import open_door

INVOKER = "roles/run.invoker"


def _policy(*members: str, role: str = INVOKER, **more: Any) -> dict[str, Any]:
    return {"version": 3, "etag": "BwX", "bindings": [{"role": role, "members": [*members], **more}]}


@pytest.mark.parametrize(
    ("service", "policy", "reason"),
    [
        ({}, _policy("allUsers"), "grants roles/run.invoker to allUsers"),
        ({}, _policy("user:a@example.com", "allUsers"), "allUsers"),
        ({}, _policy("ALLUSERS"), "ALLUSERS"),
        ({}, _policy("allUsers", role="projects/p/roles/custom"), "projects/p/roles/custom"),
        ({}, _policy("allUsers", condition={"expression": "request.time < timestamp('2020-01-01T00:00:00Z')"}), "all"),
        ({}, _policy("principalSet://goog/public:all"), "principalSet"),
        ({"invokerIamDisabled": True}, _policy("user:a@example.com"), "invokerIamDisabled"),
        ({"invokerIamDisabled": "false"}, {}, "invokerIamDisabled"),
        ({"invokerIamDisabled": None}, {}, "invokerIamDisabled"),
        ({"invokerIamDisabled": 0}, {}, "invokerIamDisabled"),
    ],
    ids=str,
)
def test_an_open_service_is_found(service: dict[str, Any], policy: dict[str, Any], reason: str) -> None:
    """The reason names the grant. The role and the condition of a grant do not matter."""
    assert reason in open_door(service, policy)


@pytest.mark.parametrize(
    ("service", "policy"),
    [
        ({}, {}),
        ({"invokerIamDisabled": False}, {"etag": "ACAB"}),
        ({}, {"bindings": []}),
        ({}, _policy()),
        ({}, {"bindings": [{"role": INVOKER}]}),
        ({}, _policy("allAuthenticatedUsers", "domain:example.com", "serviceAccount:a@p.iam.gserviceaccount.com")),
        ({"iapEnabled": True}, _policy("serviceAccount:service-1@gcp-sa-iap.iam.gserviceaccount.com")),
    ],
    ids=str,
)
def test_a_checked_service_has_no_open_door(service: dict[str, Any], policy: dict[str, Any]) -> None:
    """The platform verifies a token of ``allAuthenticatedUsers``, too."""
    assert open_door(service, policy) == ""


@pytest.mark.parametrize(
    "bindings",
    [None, {}, "allUsers", ["allUsers"], [None], [{"members": "allUsers"}], [{"members": [5]}], [{"members": None}]],
    ids=str,
)
def test_a_policy_of_another_shape_is_an_error(bindings: Any) -> None:
    """It is never taken for a policy that grants nothing."""
    with pytest.raises(ValueError, match="not a list of"):
        open_door({}, {"bindings": bindings})
