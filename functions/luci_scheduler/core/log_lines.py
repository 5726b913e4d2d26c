"""The lines of an invocation's debug log: each is a template that formats the line and recognizes it. Pure.

Most texts are those of the original scheduler, so that people and scripts that know its logs can read ours. Writers
format a template. The timeline and the export of scenarios match the same templates, and `debug_log` adds the time
stamps.

A template is a text with named fields, such as ``{attempt:number}``. The part after the colon is the field's pattern
in a line, one of the keys of ``_PATTERNS``.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cached_property
from string import Formatter

__all__ = ["CUT", "OWN_HEADING", "TRIAGE_HEADING", "Call", "Template"]


class Call(StrEnum):
    """A call to a build service, as the line about its failure names it."""

    ADD = "add buildbucket build"
    SCHEDULE = "schedule Buildbucket build"
    FETCH_V1 = "fetch buildbucket build"
    FETCH = "fetch build"
    FIND = "look up the build by its tag"
    CANCEL = "cancel the build"
    CREATE = "create the build"
    RUN = "run the trigger"
    LOOK_UP = "look up the build"
    GET = "fetch the build"


_PATTERNS = {
    "": ".*",
    "call": "|".join(re.escape(call.value) for call in Call),
    "duration": r"-?[0-9.hmsnµ]+",
    "hash": "[0-9a-f]+",
    "number": r"-?[0-9]+",
    "quoted": r'"(?:[^"\\]|\\.)*"',
    "word": r"\S+",
}
"""A field without a pattern is any text, of one line or of several. A quoted field includes its quotation marks."""


class Template:
    """One line of the debug log. Immutable."""

    def __init__(self, text: str) -> None:
        self._parts = parts = [(literal, name, kind or "") for literal, name, kind, _ in Formatter().parse(text)]
        self.beginning = parts[0][0]
        """The fixed text in front of the first field."""
        self.patterns = {name: kind for _, name, kind in parts if name is not None}
        """The pattern's key of each field, by the field's name."""
        self._plain = "".join(literal if name is None else f"{literal}{{{name}}}" for literal, name, _ in parts)

    @cached_property
    def _regexp(self) -> re.Pattern[str]:
        # Compiled late, because the event functions only write lines: all templates take as long as the other imports
        # of the engine together.
        fields = [(re.escape(literal), name, _PATTERNS[kind]) for literal, name, kind in self._parts]
        return re.compile(
            "".join(literal if name is None else f"{literal}(?P<{name}>{kind})" for literal, name, kind in fields),
            re.DOTALL,
        )

    def format(self, **fields: object) -> str:
        """Return the line, without its stamp.

        Raises:
            TypeError: the names are not those of the template's fields.
        """
        if fields.keys() != self.patterns.keys():
            raise TypeError(f"{self._plain!r} has the fields {sorted(self.patterns)}, not {sorted(fields)}")
        return self._plain.format(**fields)

    def match(self, text: str) -> dict[str, str] | None:
        """Return the fields of a line, or None if the line is not of this template."""
        match = self._regexp.fullmatch(text) if self.begins(text) else None
        return match.groupdict() if match else None

    def begins(self, text: str) -> bool:
        """Whether a line has the template's beginning. This is faster than `match`, and suffices for a unique one."""
        return text.startswith(self.beginning)


CUT = "--- the log has been cut here ---"
"""A separate line without a stamp, in place of the lines that a huge log has lost."""

TRIAGE_HEADING = "Debug output from the triage procedure:"
OWN_HEADING = "Debug output from the invocation itself:"
"""Both stand without a stamp, in a log that begins with the lines of the triage that made the invocation."""

# The beginning and the launch.
QUEUED = Template("New invocation is queued and will start shortly")
TRIGGERED_BY = Template("Triggered by {who}")
STARTING = Template("Starting the invocation (attempt {attempt:number})")
TOO_MANY_ATTEMPTS = Template("Too many attempts, giving up")
RETRIED = Template("The invocation will be retried")
OUTCOME_NOT_STORED = Template("Fatal error: the outcome cannot be stored - {error}")

# The abort.
ABORTED_V1 = Template("Invocation is manually aborted by {who}")
ABORTED = Template("Invocation was manually aborted by {who}")
LAUNCH_SKIPPED = Template("Skipping the launch, the invocation was manually aborted by {who}")
ABORT_FAILED = Template("Fatal error when aborting the invocation - {error}")

# Timers, notifications and emitted triggers.
SCHEDULING_TIMER = Template("Scheduling timer {title:quoted} ({timer_id}) after {delay:duration}")
HANDLING_TIMER = Template("Handling timer {title:quoted} ({timer_id})")
IGNORING_TIMER = Template("Ignoring timer {title:quoted} ({timer_id})...")
HANDLER_FAILED = Template("Fatal error when handling {event}, aborting invocation - {error}")
EMITTING = Template("Emitting a trigger {trigger_id}")
DISPATCHING = Template("Dispatching triggers ({count:number} of them) to the following jobs:")
DISPATCHED_TO = Template("  {job_id}")

# The end, and the cleanup of a build after it.
FINISHED = Template("Invocation finished in {duration:duration} with status {status:word}")
SILENT = Template("The build service has not answered for {silence:duration}, giving up. The build was {url}")
CLEANUP_DONE = Template("The build service has answered: no unwatched build of this invocation is left running")
CLEANUP_REFUSED = Template(
    "The build service has refused to cancel the build that this invocation may have left running - {error}"
)
CLEANUP_GAVE_UP = Template(
    "The build service has not answered for as long as a build can live, nothing is looked for any more"
)

# Builds of every service.
TASK_URL = Template("Task URL: {url}")
NOTIFIED = Template("Received PubSub notification, asking {service} for the build status")
BUILD_STATUS = Template("Build status: {status}")
BUILD = Template("Build:\n{answer}")
CALL_FAILED = Template("Failed to {call:call} - {error}")
BUILD_DOUBLED = Template("The invocation has builds {kept:word} and {double:word}: canceling {canceled:word}")
BUILD_MAY_RUN = Template("Build {build_id:word} may be running: {where}")
EARLIER_BUILD_MAY_RUN = Template("A build of an earlier attempt may be running: look for builds with the tag {tag}")

# Builds in Buildbucket, in both protocols.
TOPIC_FAILED = Template("Failed to prepare PubSub topic - {error}")
PREPARING_TOPIC = Template("Preparing PubSub topic for {server:quoted}")
TOPIC = Template("PubSub topic is {topic:quoted}")
NO_TOPIC = Template("The server sends no notifications here: status checks alone find the build's end")
CAPPING_TRIGGERS = Template("Capping {count:number} triggers passed to the build to just {kept:number} latest ones")
REQUEST = Template("Buildbucket request:\n{request}")
BUILD_OF_ANOTHER = Template(
    "Buildbucket answered request {request_id:word} with build {build_id:word} of another invocation"
)

# Builds in Buildbucket v1.
V1_CHECKING = Template("Timer tick, asking Buildbucket for the build status")
V1_RESPONSE = Template("Buildbucket response:\n{answer}")
V1_BUILD = Template("Buildbucket build:\n{answer}")
V1_STATUS = Template(
    "Build {build_id:number}: status {status:quoted}, result {result:quoted}, failure_reason {failure_reason:quoted}, "
    "cancelation_reason {cancelation_reason:quoted}"
)
V1_ERROR = Template("Buildbucket returned error {reason:quoted}: {message}")
V1_INVALID = Template("Buildbucket response is not valid, missing 'build'")

# Builds in Buildbucket v2.
V2_SCHEDULED = Template("Scheduled build:\n{answer}")
V2_UNEXPECTED = Template("Unexpected Build status {status}, marking the invocation as failed")

# Builds in Cloud Build.
LAUNCH_REFUSED = Template("The build cannot be requested - {error}")
CLOUD_REQUEST = Template("Cloud Build request:\n{request}")
CLOUD_RESPONSE = Template("Cloud Build response:\n{answer}")
BUILD_FOUND = Template("Found the build of an earlier attempt: {build_id:word}")
EARLIER_RUN_MAY_RUN = Template(
    "A build of an earlier attempt may be running: look for builds with the substitution {substitution}"
)
BUILD_OF_LOST_ATTEMPT = Template(
    "Build {build_id:word} of a lost attempt is running beside {recorded:word}, canceling it"
)
CLOUD_UNEXPECTED = Template("Unexpected build status {status}, marking the invocation as failed")
BUILD_FAILED = Template("Build failed: {reason}")
BUILD_ENDED = Template("Build ended with {status:word}: {detail}")
NEXT_STEP = Template("To fix this, {advice}")
REVISION_IGNORED = Template('Ignoring property "revision", it is no commit: {value:quoted}')
OTHER_REPOSITORY = Template("The commit is one of {repository}, the source is {source}: building {revision}")
PROPERTY_RESERVED = Template("Property {name:quoted} would hide a substitution of the scheduler, leaving it out")
PROPERTY_DOUBLED = Template("Property {name:quoted} has the same substitution as {other:quoted}, leaving it out")
PROPERTY_NAME_TOO_LONG = Template("Property {name:quoted} has too long a name for a substitution, leaving it out")
PROPERTY_TOO_LONG = Template(
    "Property {name:quoted} is too long for a substitution ({size:number} bytes, at most {most:number}), leaving it out"
)

# The commit of a v2 build, from tags and properties.
PROPERTY_IGNORED = Template("No buildset tag present, ignoring property {name:quoted}: {value:quoted}")
PROPERTY_INVALID = Template("Ignoring invalid property {name:quoted}: {value:quoted}")
PROPERTY_DIFFERS = Template(
    "Git {what:word} in properties {in_properties:quoted} doesn't match the one in tags {in_tags:quoted}"
)
COMMIT_FROM_TAGS = Template("Reconstructed gitiles commit from tags")
COMMIT_POPPED = Template("Popped gitiles commit info from properties and tags")
COMMITS_DIFFER = Template("crbug.com/1182002: Gitiles commit from triggers doesn't match the one from tags")
COMMIT_OF_TRIGGERS = Template("From triggers:\n{commit}")
COMMIT_OF_PROPERTIES = Template("From properties:\n{commit}")
COMMIT_OF_TAGS_USED = Template("Using the one from tags")
REF_TAG_EXTRA = Template("Ignoring extra gitiles_ref {ref:quoted}")
REF_TAG_ALONE = Template("Ignoring gitiles_ref tag without the buildset tag")
BUILDSET_UNKNOWN = Template("Ignoring unrecognized buildset tag {tag:quoted}")
BUILDSET_EXTRA = Template("Ignoring extra buildset tag {tag:quoted}")
BUILDSET_POPPED = Template("Popped buildset tag {tag:quoted}")

# Polls of a repository.
POLLING = Template("Repo: {repo}, Refs: [{refs}]")
REFS_FETCHED = Template("Fetched refs: {known:number} from datastore, {current:number} from gitiles")
REFS_NOT_FETCHED = Template("Error fetching state of the world: {error}")
REFS_UNRESOLVED = Template("Error fetching state of the world: {count:number} unresolved refs")
REFS_HINT = Template(
    "The following configured refs didn't match a single actual ref: [{missing}]\n"
    "Hint: have you granted read access to LUCI Scheduler on relevant refs in {repo:quoted}\n"
    "Resolved refs from gitiles:\nmap[{found}]?\n"
)
NOTHING_CHANGED = Template("No changes detected")
SOME_REFS_PROCESSED = Template("{changed:number} changed refs processed, {left:number} refs not yet examined")
ALL_REFS_PROCESSED = Template("All {changed:number} changed refs processed")
REFS_SAVED = Template("Saved {count:number} known refs")
NO_PROGRESS = Template("no progress made due to {error}")
ERROR_IGNORED = Template("ignoring error {error} as transient")
TRIGGERS_POSTPONED = Template("Emitted {emitted:number} triggers, postponing the rest")
REF_UNWATCHED = Template("Ref {ref} is no longer watched")
REF_DELETED = Template("Ref {ref} deleted")
REF_NEW = Template("Ref {ref} is new: {head:hash}")
REF_UPDATED = Template("Ref {ref} updated: {old:hash} => {head:hash}")
TAG_EXISTED = Template("Tag {ref} newly matched but already existed")
COMMITS_LEFT = Template("Ref {ref}: {left:number} newer commits are left to the next polls")
COMMITS_SKIPPED = Template("Ref {ref}: skipped {count} commits older than the newest {taken:number}")
TIP_EMITTED = Template(
    "NOTE: emitting trigger {commit:quoted} on tip of {ref:quoted} even though didn't match path filters "
    "because {reason}"
)
CUT_EMITTED = Template("NOTE: emitting trigger {commit:quoted} although only {known:number} of its changes are known")
COMMIT_SKIPPED = Template("skipping commit {commit:quoted} on {ref:quoted} because {reason}")
NO_FIRST_LOG = Template("Ref {ref}: log of first rev {head:hash} not found")
NO_RANGE = Template("Ref {ref}: failed to fetch log between old {old} and new {head:hash} revs")
RANGE_NOT_FOUND = Template("Ref {ref}: log old..new is not found, investigating further...")
NO_NEW_LOG = Template("Ref {ref}: failed to fetch even log of just new rev {head:hash} {error}")
NO_OLD_LOG = Template("Ref {ref}: failed to fetch log of just old rev {old:hash}: {error}")
FORCE_PUSH = Template("Ref {ref}: force push detected; emitting trigger for new head")
WEIRD_RANGE = Template(
    "Ref {ref}: weirdly, log({from_old:hash}) and log({from_head:hash}) work, but not log({old:hash}..{head:hash})"
)

# Noop tasks and URL fetches.
NOOP_RUNNING = Template("Running noop task for {sleep:duration}")
NOOP_TOO_LARGE = Template(
    "This is more than one run can do: at most {sleep:duration} and {triggers:number} triggers; "
    "change sleep_ms or triggers_count of the job"
)
FETCHING = Template("{method:word} {url}")
FETCHED = Template("Finished with overall status {status:word} in {duration:duration}")
FETCH_FAILED = Template("URL fetch error: {error}")
