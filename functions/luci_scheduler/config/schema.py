"""The schema of ``luci-scheduler.cfg``, as protobuf messages built from a table: no generated code.

Names and numbers are those of LUCI's ``scheduler.config`` package; text protos are read with protobuf's own parser.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory

__all__ = ["project_config_class"]

_PACKAGE = "scheduler.config"
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _FIELD.TYPE_STRING,
    "bool": _FIELD.TYPE_BOOL,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "float": _FIELD.TYPE_FLOAT,
}

_ENUMS = {
    "Acl.Role": ("READER", "OWNER", "TRIGGERER"),
    "TriggeringPolicy.Kind": ("UNDEFINED", "GREEDY_BATCHING", "LOGARITHMIC_BATCHING", "NEWEST_FIRST"),
}

_MESSAGES = {
    "ProjectConfig": "1 job Job*, 2 trigger Trigger*, 3 acl_sets AclSet*",
    "Job": "1 id string, 2 schedule string, 3 disabled bool, 5 acls Acl*, 6 acl_sets string*, "
    "7 triggering_policy TriggeringPolicy, 8 realm string, 100 noop NoopTask, 101 url_fetch UrlFetchTask, "
    "103 buildbucket BuildbucketTask",
    "Trigger": "1 id string, 2 schedule string, 3 disabled bool, 4 acls Acl*, 5 acl_sets string*, "
    "6 triggering_policy TriggeringPolicy, 7 realm string, 100 noop NoopTask, 101 gitiles GitilesTask, 200 triggers string*",
    "TriggeringPolicy": "1 kind TriggeringPolicy.Kind, 2 max_concurrent_invocations int64, 3 max_batch_size int64, "
    "4 log_base float, 5 pending_timeout Duration",
    "NoopTask": "1 sleep_ms int64, 2 triggers_count int64",
    "GitilesTask": "1 repo string, 2 refs string*, 3 path_regexps string*, 4 path_regexps_exclude string*",
    "UrlFetchTask": "1 method string, 2 url string, 3 timeout_sec int32",
    "BuildbucketTask": "1 server string, 2 bucket string, 3 builder string, 4 properties string*, 5 tags string*",
    "Acl": "1 role Acl.Role, 2 granted_to string",
    "AclSet": "1 name string, 2 acls Acl*",
}
"""Message → ``number name type``; ``*`` marks a repeated field."""


@cache
def project_config_class() -> Any:
    """Return the message class of a whole file, ``ProjectConfig``."""
    pool = descriptor_pool.DescriptorPool()
    duration = descriptor_pb2.FileDescriptorProto()
    duration_pb2.DESCRIPTOR.CopyToProto(duration)
    pool.Add(duration)
    file = descriptor_pb2.FileDescriptorProto(
        name="luci_scheduler/config.proto", package=_PACKAGE, syntax="proto3", dependency=[duration.name]
    )
    for name, text in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for enum, values in _ENUMS.items():
            if enum.startswith(f"{name}."):
                declared = message.enum_type.add(name=enum.partition(".")[2])
                for number, value in enumerate(values):
                    declared.value.add(name=value, number=number)
        for field in text.split(", "):
            _add_field(message, field)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.ProjectConfig"))


def _add_field(message: descriptor_pb2.DescriptorProto, text: str) -> None:
    number, name, kind = text.split()
    repeated = kind.endswith("*")
    kind = kind.removesuffix("*")
    field = message.field.add(name=name, number=int(number))
    field.label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    elif kind in _ENUMS:
        field.type, field.type_name = _FIELD.TYPE_ENUM, f".{_PACKAGE}.{kind}"
    else:
        field.type = _FIELD.TYPE_MESSAGE
        field.type_name = ".google.protobuf.Duration" if kind == "Duration" else f".{_PACKAGE}.{kind}"
