"""The schema of ``luci-scheduler.cfg``, as protobuf messages built from tables: no generated code.

Names and numbers match LUCI's ``scheduler.config`` package. Task kinds and policies add their own parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory

from luci_scheduler.core.policy import registry as policies
from luci_scheduler.core.policy.base import Policy
from luci_scheduler.managers import registry as kinds
from luci_scheduler.managers.task_kind import TaskKind

__all__ = ["UNDEFINED_POLICY", "messages", "project_config_class"]

UNDEFINED_POLICY = "UNDEFINED"
"""The policy kind of a definition that names none."""

_PACKAGE = "scheduler.config"
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _FIELD.TYPE_STRING,
    "bool": _FIELD.TYPE_BOOL,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "float": _FIELD.TYPE_FLOAT,
}

_MESSAGES = {
    "ProjectConfig": "1 job Job*, 2 trigger Trigger*, 3 acl_sets AclSet*",
    "Job": "1 id string, 2 schedule string, 3 disabled bool, 5 acls Acl*, 6 acl_sets string*, "
    "7 triggering_policy TriggeringPolicy, 8 realm string",
    "Trigger": "1 id string, 2 schedule string, 3 disabled bool, 4 acls Acl*, 5 acl_sets string*, "
    "6 triggering_policy TriggeringPolicy, 7 realm string, 200 triggers string*",
    "TriggeringPolicy": "1 kind TriggeringPolicy.Kind, 2 max_concurrent_invocations int64, 3 max_batch_size int64, "
    "4 log_base float, 5 pending_timeout Duration",
    "Acl": "1 role Acl.Role, 2 granted_to string",
    "AclSet": "1 name string, 2 acls Acl*",
}
_ROLES = {"READER": 0, "OWNER": 1, "TRIGGERER": 2}


def messages() -> Mapping[str, str]:
    """Return each message as ``number name type, ...``; ``*`` marks a repeated field."""
    return _messages(kinds.KINDS)


def project_config_class() -> Any:
    """Return the message class of a whole file, ``ProjectConfig``."""
    return _project_config_class(kinds.KINDS, policies.POLICIES)


def _messages(task_kinds: tuple[TaskKind, ...]) -> Mapping[str, str]:
    found = dict(_MESSAGES)
    for kind in task_kinds:
        found |= {kind.message_name: kind.schema, **kind.messages}
        for message, number in (("Job", kind.job_field), ("Trigger", kind.trigger_field)):
            if number:
                found[message] += f", {number} {kind.name} {kind.message_name}"
    return found


def _enums(policy_classes: tuple[type[Policy], ...]) -> Mapping[str, Mapping[str, int]]:
    named = {policy.kind: policy.number for policy in policy_classes}
    return {"Acl.Role": _ROLES, "TriggeringPolicy.Kind": {UNDEFINED_POLICY: 0, **named}}


@cache
def _project_config_class(task_kinds: tuple[TaskKind, ...], policy_classes: tuple[type[Policy], ...]) -> Any:
    pool = descriptor_pool.DescriptorPool()
    duration = descriptor_pb2.FileDescriptorProto()
    duration_pb2.DESCRIPTOR.CopyToProto(duration)
    pool.Add(duration)
    file = descriptor_pb2.FileDescriptorProto(
        name="luci_scheduler/config.proto", package=_PACKAGE, syntax="proto3", dependency=[duration.name]
    )
    enums = _enums(policy_classes)
    for name, fields in _messages(task_kinds).items():
        message = file.message_type.add(name=name)
        _add_enums(message, enums)
        for field in filter(None, fields.split(", ")):
            _add_field(message, field, enums)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.ProjectConfig"))


def _add_enums(message: descriptor_pb2.DescriptorProto, enums: Mapping[str, Mapping[str, int]]) -> None:
    for path, values in enums.items():
        owner, _, name = path.partition(".")
        if owner == message.name:
            declared = message.enum_type.add(name=name)
            for value, number in values.items():
                declared.value.add(name=value, number=number)


def _add_field(message: descriptor_pb2.DescriptorProto, text: str, enums: Mapping[str, Mapping[str, int]]) -> None:
    number, name, kind = text.split()
    repeated = kind.endswith("*")
    kind = kind.removesuffix("*")
    field = message.field.add(name=name, number=int(number))
    field.label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    elif kind in enums:
        field.type, field.type_name = _FIELD.TYPE_ENUM, f".{_PACKAGE}.{kind}"
    else:
        field.type = _FIELD.TYPE_MESSAGE
        field.type_name = ".google.protobuf.Duration" if kind == "Duration" else f".{_PACKAGE}.{kind}"
