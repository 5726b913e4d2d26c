"""A Buildbucket server for the local cloud: the v2 API (pRPC) and the v1 API (REST) over one store of builds."""

from emulator.buildbucket.builders import BuilderConfig
from emulator.buildbucket.builds import Build, Outcome
from emulator.buildbucket.canned import CannedResponse
from emulator.buildbucket.faults import Fault
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.notifications import NotificationFault
from emulator.buildbucket.plans import Announce, Command, End, Manual, Script, Start
from emulator.buildbucket.server import BuildbucketServer
from emulator.buildbucket.state import BuildbucketRequest

__all__ = [
    "Announce",
    "Build",
    "BuildbucketRequest",
    "BuildbucketServer",
    "BuilderConfig",
    "BuilderId",
    "CannedResponse",
    "Command",
    "End",
    "Fault",
    "Manual",
    "NotificationFault",
    "Outcome",
    "Script",
    "Start",
]
