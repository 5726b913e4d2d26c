"""The access policy, a small JSON document, and the decisions that follow from it. Pure.

::

    {"version": 1,
     "admins": ["user:root@example.com", "group:infra"],
     "groups": {"infra": ["user:a@example.com", "domain:infra.example.com"]},
     "grants": [
       {"project": "tint", "realm": "ci", "role": "OWNER", "to": ["group:infra"]},
       {"project": "*", "role": "READER", "to": ["allUsers"]}]}

Access is denied by default: a missing or invalid policy allows nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any

from luci_scheduler.core.frozen import frozen
from luci_scheduler.core.identifiers import PROJECT_NAME
from luci_scheduler.core.identity import Identity

__all__ = [
    "MAX_POLICY_BYTES",
    "ROLES",
    "Access",
    "AccessError",
    "Permission",
    "load_access",
    "parse_access",
]

MAX_POLICY_BYTES = 256 * 1024
"""The size of an access policy. An environment on Cloud Run holds 32 KiB."""

_VERSION = 1
_REALM = re.compile(r"@legacy|@root|@project|[a-z0-9][a-z0-9_.\-/]{0,399}")
_GROUP = re.compile(r"[0-9A-Za-z_.\-/]{1,100}")
_EMAIL = re.compile(r"[^\s@:]{1,200}@[^\s@:]{1,200}")
_DOMAIN = re.compile(r"[a-z0-9\-]+(\.[a-z0-9\-]+)*")


class Permission(StrEnum):
    """A permission on a job, as LUCI spells it."""

    GET = "scheduler.jobs.get"
    PAUSE = "scheduler.jobs.pause"
    RESUME = "scheduler.jobs.resume"
    ABORT = "scheduler.jobs.abort"
    TRIGGER = "scheduler.jobs.trigger"


ROLES: Mapping[str, frozenset[Permission]] = {
    "READER": frozenset({Permission.GET}),
    "TRIGGERER": frozenset({Permission.GET, Permission.TRIGGER}),
    "OWNER": frozenset(Permission),
}


class AccessError(Exception):
    """A policy is not valid; ``problems`` lists every error with its place."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@frozen
class _Grant:
    project: str
    realm: str
    permissions: frozenset[Permission]
    to: frozenset[str]
    """Principals, with groups replaced by their members."""


@frozen
class Access:
    """A policy that is ready for decisions; without arguments it allows nothing."""

    admins: frozenset[str] = frozenset()
    grants: tuple[_Grant, ...] = ()
    problem: str = ""
    """Why the policy allows nothing, for any visitor; empty if the policy is active."""
    fault: str = ""
    """The same reason in detail, for the policy's owners: it quotes the policy."""

    def is_admin(self, identity: Identity) -> bool:
        """Return whether ``identity`` has every permission in every project."""
        return not self.admins.isdisjoint(_principals(identity))

    def allows(self, identity: Identity, permission: Permission, project: str, realm: str) -> bool:
        """Return whether ``identity`` has a permission in a realm of a project.

        ``realm`` is the short name, as in configs.
        """
        principals = _principals(identity)
        if not self.admins.isdisjoint(principals):
            return True
        return any(grant.realm in ("", realm) for grant in self._granted(principals, permission, project))

    def allows_somewhere(self, identity: Identity, permission: Permission, project: str = "") -> bool:
        """Return whether ``identity`` has a permission in a realm of a project; without ``project``: of any project."""
        principals = _principals(identity)
        granted = self._granted(principals, permission, project)
        return not self.admins.isdisjoint(principals) or any(True for _ in granted)

    def allows_everywhere(self, identity: Identity, permission: Permission, project: str) -> bool:
        """Return whether ``identity`` has a permission in a whole project, including its future realms."""
        principals = _principals(identity)
        granted = self._granted(principals, permission, project)
        return not self.admins.isdisjoint(principals) or any(not grant.realm for grant in granted)

    def realms(self, identity: Identity, permission: Permission, project: str) -> tuple[str, ...] | None:
        """Return the realms of a project in which ``identity`` has a permission, sorted; None: in all of them."""
        if self.allows_everywhere(identity, permission, project):
            return None
        return tuple(sorted({grant.realm for grant in self._granted(_principals(identity), permission, project)}))

    def _granted(self, principals: frozenset[str], permission: Permission, project: str) -> Iterator[_Grant]:
        """Yield the grants of a permission in a project, or in any project if none is named."""
        for grant in self.grants:
            is_there = not project or grant.project in ("*", project)
            if is_there and permission in grant.permissions and not grant.to.isdisjoint(principals):
                yield grant


@lru_cache(maxsize=8)
def load_access(text: str) -> Access:
    """Read a policy; a missing or invalid policy allows nothing and gives its reason in ``problem``.

    The policies of the latest texts are kept, because each request to the console needs the same policy.
    """
    if not text.strip():
        return Access(problem="no access policy is set, so all access is denied: set SCHEDULER_ACCESS")
    try:
        return parse_access(text)
    except AccessError as error:
        first, more = error.problems[0], len(error.problems) - 1
        also = f" (and {more} more)" if more else ""
        problem = "SCHEDULER_ACCESS is not valid, so all access is denied: the console's log has details"
        return Access(problem=problem, fault=f"SCHEDULER_ACCESS: {first}{also}")


def parse_access(text: str) -> Access:
    """Read a policy.

    Raises:
        AccessError: the text is not JSON, or does not match the schema; every error is listed with its place.
    """
    if len(text.encode()) > MAX_POLICY_BYTES:
        raise AccessError([f"an access policy may have at most {MAX_POLICY_BYTES} bytes"])
    try:
        document = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise AccessError([f"not JSON: {error}"]) from error
    reader = _Reader()
    access = reader.policy(document)
    if reader.problems:
        raise AccessError(reader.problems)
    return access


def _principals(identity: Identity) -> frozenset[str]:
    if not identity.startswith("user:"):
        return frozenset({"allUsers"})
    domain = identity.rpartition("@")[2]
    return frozenset({"allUsers", "allAuthenticatedUsers", identity, f"domain:{domain}"})


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'the member "{name}" is repeated')
    return dict(pairs)


class _Reader:
    """Reads a policy and collects its errors, so that one run reports all of them."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._groups: dict[str, frozenset[str]] = {}

    def policy(self, document: Any) -> Access:
        members = self._object("", document, required=("version",), optional=("admins", "groups", "grants"))
        version = members.get("version", _VERSION)
        if version != _VERSION or isinstance(version, bool):
            self._fault("version", f"must be {_VERSION}, not {json.dumps(version)}")
            return Access()
        groups = members.get("groups", {})
        if not isinstance(groups, dict):
            self._fault("groups", "must be an object: a group's name → the list of its members")
            groups = {}
        for name, listed in groups.items():
            place = f"groups.{name}"
            if not _GROUP.fullmatch(name):
                self._fault(place, "a group's name has 1 to 100 letters, digits, '_', '.', '-' or '/'")
            self._groups[name] = self._list_of_principals(place, listed, in_group=True)
        admins = self._list_of_principals("admins", members.get("admins", []))
        return Access(admins, tuple(self._grants(members.get("grants", []))))

    def _grants(self, listed: Any) -> Iterator[_Grant]:
        if not isinstance(listed, list):
            self._fault("grants", "must be a list")
            return
        for number, item in enumerate(listed):
            place = f"grants[{number}]"
            members = self._object(place, item, required=("project", "role", "to"), optional=("realm",))
            project = self._text(
                f"{place}.project", members.get("project", "*"), PROJECT_NAME, "a project's name, or *", "*"
            )
            realm = self._text(f"{place}.realm", members.get("realm", ""), _REALM, "a realm's short name", "")
            role = members.get("role", "READER")
            if not isinstance(role, str) or role not in ROLES:
                self._fault(f"{place}.role", f"must be one of {', '.join(ROLES)}, not {json.dumps(role)}")
                role = "READER"
            yield _Grant(project, realm, ROLES[role], self._list_of_principals(f"{place}.to", members.get("to", [])))

    def _list_of_principals(self, place: str, listed: Any, *, in_group: bool = False) -> frozenset[str]:
        if not isinstance(listed, list):
            self._fault(place, "must be a list of strings such as user:a@example.com")
            return frozenset()
        found: set[str] = set()
        for number, item in enumerate(listed):
            where = f"{place}[{number}]"
            if not isinstance(item, str):
                self._fault(where, f"must be a string, not {json.dumps(item)}")
            elif item.startswith("group:") and not in_group:
                found |= self._members(where, item.removeprefix("group:"))
            else:
                self._check_principal(where, item, in_group=in_group)
                found.add(item if item.startswith("all") else item.lower())
        return frozenset(found)

    def _members(self, place: str, group: str) -> frozenset[str]:
        if group not in self._groups:
            self._fault(place, f'unknown group "{group}"')
        return self._groups.get(group, frozenset())

    def _check_principal(self, place: str, item: str, *, in_group: bool) -> None:
        kind, _, value = item.partition(":")
        fits = {"user": _EMAIL.fullmatch(value), "domain": _DOMAIN.fullmatch(value.lower())}
        if fits.get(kind) or (not in_group and item in ("allUsers", "allAuthenticatedUsers")):
            return
        wanted = "user:<e-mail> or domain:<name>"
        wanted += "" if in_group else ", group:<name>, allAuthenticatedUsers or allUsers"
        self._fault(place, f"must be {wanted}, not {json.dumps(item)}")

    def _text(self, place: str, value: Any, pattern: re.Pattern[str], what: str, otherwise: str) -> str:
        if isinstance(value, str) and (value == otherwise or pattern.fullmatch(value)):
            return value
        self._fault(place, f"must be {what}, not {json.dumps(value)}")
        return otherwise

    def _object(self, place: str, value: Any, *, required: Sequence[str], optional: Sequence[str]) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self._fault(place, "must be an object")
            return {}
        for name in required:
            if name not in value:
                self._fault(place, f'"{name}" is missing')
        for name in value:
            if name not in (*required, *optional):
                self._fault(f"{place}.{name}".lstrip("."), "unknown member")
        return value

    def _fault(self, place: str, text: str) -> None:
        self.problems.append(f"{place or 'the policy'}: {text}")
