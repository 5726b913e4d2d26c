"""The access policy: strict reading, and the decisions."""

import json
from typing import Any

import pytest

from luci_scheduler.api.access import MAX_POLICY_BYTES, AccessError, Permission, load_access, parse_access
from luci_scheduler.core.identity import ANONYMOUS, Identity, user

POLICY = {
    "version": 1,
    "admins": ["user:Root@Example.com", "group:infra"],
    "groups": {"infra": ["user:i@x.com", "domain:infra.example.com"], "empty": []},
    "grants": [
        {"project": "p", "role": "OWNER", "to": ["user:o@x.com"]},
        {"project": "p", "realm": "ci", "role": "TRIGGERER", "to": ["domain:ci.com", "group:empty"]},
        {"project": "*", "realm": "public", "role": "READER", "to": ["allUsers"]},
        {"project": "q", "role": "READER", "to": ["allAuthenticatedUsers"]},
    ],
}
EVERYTHING = set(Permission)


def _permissions(identity: Identity, project: str, realm: str) -> set[Permission]:
    access = parse_access(json.dumps(POLICY))
    return {permission for permission in Permission if access.allows(identity, permission, project, realm)}


@pytest.mark.parametrize(
    ("identity", "project", "realm", "expected"),
    [
        (user("o@x.com"), "p", "ci", EVERYTHING),
        (user("O@X.com"), "p", "@legacy", EVERYTHING),
        (user("o@x.com"), "q", "ci", {Permission.GET}),
        (user("a@ci.com"), "p", "ci", {Permission.GET, Permission.TRIGGER}),
        (user("a@ci.com"), "p", "try", set()),
        (user("a@notci.com"), "p", "ci", set()),
        (user("a@sub.ci.com"), "p", "ci", set()),
        (user("root@example.com"), "other", "x", EVERYTHING),
        (user("i@x.com"), "other", "x", EVERYTHING),
        (user("any@infra.example.com"), "other", "x", EVERYTHING),
        (ANONYMOUS, "p", "ci", set()),
        (ANONYMOUS, "p", "public", {Permission.GET}),
        (ANONYMOUS, "q", "ci", set()),
        (user("somebody@else.org"), "q", "ci", {Permission.GET}),
        (Identity("service:x@ci.com"), "p", "ci", set()),
    ],
)
def test_permissions_follow_from_grants(
    identity: Identity, project: str, realm: str, expected: set[Permission]
) -> None:
    """Grants are by project and realm, to users, domains, groups and everyone; administrators may do everything."""
    assert _permissions(identity, project, realm) == expected


def test_only_admins_are_admins() -> None:
    """An owner of every project is not an administrator."""
    access = parse_access(json.dumps(POLICY))
    assert access.is_admin(user("root@example.com"))
    assert not access.is_admin(user("o@x.com"))
    assert not access.is_admin(ANONYMOUS)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "the policy: must be an object"),
        ({}, 'the policy: "version" is missing'),
        ({"version": 2}, "version: must be 1, not 2"),
        ({"version": True}, "version: must be 1, not true"),
        ({"version": 1, "grant": []}, "grant: unknown member"),
        ({"version": 1, "admins": "user:a@b.c"}, "admins: must be a list of strings such as user:a@example.com"),
        ({"version": 1, "admins": ["group:x"]}, 'admins[0]: unknown group "x"'),
        ({"version": 1, "admins": [1]}, "admins[0]: must be a string, not 1"),
        ({"version": 1, "groups": []}, "groups: must be an object: a group's name → the list of its members"),
        ({"version": 1, "groups": {"a b": []}}, "groups.a b: a group's name has 1 to 100"),
        ({"version": 1, "groups": {"g": ["group:g"]}}, "groups.g[0]: must be user:<e-mail> or domain:<name>, not"),
        ({"version": 1, "groups": {"g": ["allUsers"]}}, "groups.g[0]: must be user:<e-mail> or domain:<name>, not"),
        ({"version": 1, "grants": {}}, "grants: must be a list"),
        ({"version": 1, "grants": [{}]}, 'grants[0]: "project" is missing'),
        (
            {"version": 1, "grants": [{"project": "a/b", "role": "READER", "to": []}]},
            "grants[0].project: must be a project's",
        ),
        (
            {"version": 1, "grants": [{"project": "p", "role": "ADMIN", "to": []}]},
            "grants[0].role: must be one of READER,",
        ),
        ({"version": 1, "grants": [{"project": "p", "role": [], "to": []}]}, "grants[0].role: must be one of READER,"),
        (
            {"version": 1, "grants": [{"project": "p", "realm": "p:ci", "role": "READER", "to": []}]},
            "grants[0].realm: ",
        ),
        (
            {"version": 1, "grants": [{"project": "p", "role": "READER", "to": ["a@b.c"]}]},
            "grants[0].to[0]: must be user:",
        ),
        (
            {"version": 1, "grants": [{"project": "p", "role": "READER", "to": ["user:"]}]},
            "grants[0].to[0]: must be user:",
        ),
        ({"version": 1, "grants": [{"project": "p", "role": "READER", "to": ["user:a@b c"]}]}, "grants[0].to[0]: "),
        ({"version": 1, "grants": [{"project": "p", "role": "READER", "to": ["domain:"]}]}, "grants[0].to[0]: "),
    ],
)
def test_an_error_has_its_place(document: Any, problem: str) -> None:
    """An invalid policy grants nothing."""
    with pytest.raises(AccessError) as raised:
        parse_access(json.dumps(document))
    assert any(line.startswith(problem) for line in raised.value.problems), raised.value.problems


@pytest.mark.parametrize("text", ["{", "nope", '{"version": 1, "version": 1}', "[" * 200_000, '"\\ud800"'])
def test_hostile_texts_are_refused(text: str) -> None:
    """The text is not JSON, repeats members, or is nested too deeply."""
    with pytest.raises(AccessError):
        parse_access(text)


def test_a_policy_has_a_maximum_size() -> None:
    """A policy with trailing white space is accepted up to the limit and refused above it."""
    policy = '{"version": 1, "admins": ["user:a@b.c"]}'
    assert parse_access(policy.ljust(MAX_POLICY_BYTES)) == parse_access(policy)
    with pytest.raises(AccessError, match=str(MAX_POLICY_BYTES)):
        parse_access(policy.ljust(MAX_POLICY_BYTES + 1))


def test_all_errors_are_reported_at_once() -> None:
    """All errors are reported at once."""
    with pytest.raises(AccessError) as raised:
        parse_access('{"version": 1, "admins": [1], "grants": [{"project": "*", "role": "X", "to": ["y"]}], "z": 0}')
    assert len(raised.value.problems) == 4


@pytest.mark.parametrize("text", ["", "  \n", "{}", "not json"])
def test_without_a_valid_policy_all_access_is_denied(text: str) -> None:
    """The default denies all access and gives the reason."""
    access = load_access(text)
    assert "SCHEDULER_ACCESS" in access.problem
    assert not any(access.allows(user("a@b.c"), permission, "p", "r") for permission in Permission)
    assert not access.is_admin(user("a@b.c"))
