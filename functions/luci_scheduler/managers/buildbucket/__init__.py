"""Buildbucket tasks: a build is scheduled, watched by notifications and timers, and canceled on abort."""
