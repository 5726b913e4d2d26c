"""A Buildbucket server for the local cloud: today's API (pRPC, v2) and that of 2021 (REST, v1) over one store of builds."""

from emulator.buildbucket.builders import BuilderConfig
from emulator.buildbucket.builds import Build, Outcome
from emulator.buildbucket.faults import Canned, Fault, RequestRecord
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.notifications import NotificationFault, Publisher
from emulator.buildbucket.plans import Announce, Command, End, Manual, Script, Start
from emulator.buildbucket.server import BuildbucketServer

__all__ = [
    "Announce",
    "Build",
    "BuildbucketServer",
    "BuilderConfig",
    "BuilderId",
    "Canned",
    "Command",
    "End",
    "Fault",
    "Manual",
    "NotificationFault",
    "Outcome",
    "Publisher",
    "RequestRecord",
    "Script",
    "Start",
]
