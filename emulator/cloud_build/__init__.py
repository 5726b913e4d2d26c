"""A Cloud Build server for the local cloud: the calls with a location, notifications, and steps as local processes."""

from emulator.cloud_build.builds import Build, Place
from emulator.cloud_build.faults import Fault
from emulator.cloud_build.memory import MemoryCloudBuild
from emulator.cloud_build.notifications import NotificationFault
from emulator.cloud_build.plans import Change, PlanRule, RunSteps, Script
from emulator.cloud_build.server import CloudBuildServer
from emulator.cloud_build.service import Service
from emulator.cloud_build.state import CloudBuildRequest
from emulator.cloud_build.triggers import Trigger

__all__ = [
    "Build",
    "Change",
    "CloudBuildRequest",
    "CloudBuildServer",
    "Fault",
    "MemoryCloudBuild",
    "NotificationFault",
    "Place",
    "PlanRule",
    "RunSteps",
    "Script",
    "Service",
    "Trigger",
]
