"""The access rules of 2021, which were part of the configs. Today realms control access, and the rules do nothing."""

from __future__ import annotations

import re
from typing import Any

from luci_scheduler.config.places import Place
from luci_scheduler.config.problems import Report
from luci_scheduler.core.go_text import quote

__all__ = ["check_acl_sets", "check_acls", "warn_of_acls"]

_SET_NAME = re.compile(r"[0-9A-Za-z_\-.]{1,100}")
_GROUP = re.compile(r"group:.+")
_IDENTITY = re.compile(r"(user:)?[^@\s:]+@[^@\s:]+|(anonymous:anonymous|(bot|project|service):\S+)")
_OWNER = 1
_MAX_GRANTS = 32  # of one job or trigger (the original's limit)
_UNUSED = "is deprecated and not used: realms decide on access"


def warn_of_acls(message: Any, places: Place, report: Report) -> None:
    """Warn about access rules anywhere in a file."""
    if message.acl_sets:
        report.warning(places.at("acl_sets"), f"'acl_sets' {_UNUSED}")
    for kind in ("job", "trigger"):
        for index, item in enumerate(getattr(message, kind)):
            names = [name for name in ("acls", "acl_sets") if getattr(item, name)]
            if names:
                place = places.at(kind, index=index)
                with report.at(kind, item.id or "(empty)"):
                    report.warning(place.at(names[0]), f"'{names[0]}' {_UNUSED}")


def check_acl_sets(message: Any, places: Place, report: Report) -> dict[str, list[Any]]:
    """Check the ``acl_sets`` of a file, and return the entries of each set by its name."""
    sets: dict[str, list[Any]] = {}
    with report.at("acl_sets"):
        for index, item in enumerate(message.acl_sets):
            place = places.at("acl_sets", index=index)
            with report.at(item.name or "(empty)"):
                if not item.name:
                    report.error(place, "missing 'name' field")
                elif not _SET_NAME.fullmatch(item.name):
                    report.error(place.at("name"), f"{quote(item.name)} is not valid value for 'name' field")
                elif item.name in sets:
                    report.error(place.at("name"), f"aclSet name {quote(item.name)} is not unique")
                if not item.acls:
                    report.error(place, f"aclSet {quote(item.name)} has no entries")
                _check_entries(item.acls, place, report)
            sets.setdefault(item.name, list(item.acls))
    return sets


def check_acls(item: Any, sets: dict[str, list[Any]], place: Place, report: Report) -> None:
    """Check the grants of one definition, both direct grants and those of the sets that it uses."""
    _check_entries(item.acls, place, report)
    grants = list(item.acls)
    with report.at("acl_sets"):
        for index, name in enumerate(item.acl_sets):
            if name not in sets:
                message = f"referencing AclSet {quote(name)} which doesn't exist"
                report.error(place.at("acl_sets", index=index), message)
            grants.extend(sets.get(name, ()))
    different = {(grant.role, grant.granted_to) for grant in grants}
    if not any(role == _OWNER for role, _ in different):
        report.error(place, "Job or Trigger must have OWNER acl set")
    if len(different) > _MAX_GRANTS:
        report.error(place, f"Job or Trigger can have at most {_MAX_GRANTS} acls, but {len(different)} given")


def _check_entries(entries: Any, place: Place, report: Report) -> None:
    with report.at("acls"):
        for index, entry in enumerate(entries):
            at = place.at("acls", index=index)
            if not entry.granted_to:
                report.error(at, "missing granted_to for role")
            elif not (_GROUP.fullmatch(entry.granted_to) or _IDENTITY.fullmatch(entry.granted_to)):
                report.error(at.at("granted_to"), f"invalid granted_to {quote(entry.granted_to)}")
