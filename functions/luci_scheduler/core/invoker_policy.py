"""Who may call a Cloud Run service: the reading of its IAM policy. Pure.

Sources: https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services (``invokerIamDisabled``) and
https://cloud.google.com/run/docs/authenticating/public (both ways to open a service).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["open_door"]

_PUBLIC = ("allusers", "principalset://goog/public")
"""The beginnings of members who need no token, in lower case. ``allAuthenticatedUsers`` need one."""


def open_door(service: Mapping[str, Any], policy: Mapping[str, Any]) -> str:
    """Return why the platform lets callers in without a check of their token; empty if it checks every caller.

    A grant counts with any role and under any condition: no rule is worth the risk of reading it wrongly.

    Args:
        service: the service, as the Cloud Run Admin API v2 describes it.
        policy: the service's own allow policy.

    Raises:
        ValueError: the policy cannot be understood.
    """
    # The API omits a false value. Any value other than false counts as true.
    if service.get("invokerIamDisabled", False) is not False:
        return "the service's check of invokers is disabled (invokerIamDisabled)"
    for role, members in _grants(policy):
        for member in members:
            if member.lower().startswith(_PUBLIC):
                return f"the service's policy grants {role} to {member}"
    return ""


def _grants(policy: Mapping[str, Any]) -> Iterable[tuple[str, list[str]]]:
    bindings = policy.get("bindings", [])
    if not isinstance(bindings, list) or not all(isinstance(binding, dict) for binding in bindings):
        raise ValueError("the policy's bindings are not a list of objects")
    for binding in bindings:
        members = binding.get("members", [])
        if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
            raise ValueError("a binding's members are not a list of texts")
        yield str(binding.get("role", "a role")), members
