"""The rules of requests, and the service's words."""

from typing import Any

import pytest

from luci_scheduler.ports import CloudBuildError
from tests.unit.emulator.cloud_build.support import Bench, is_refusal, request

STEP = {"name": "bash", "script": "true"}


def refusal(bench: Bench, **changes: Any) -> str:
    """Return the message with which a changed request is refused for good."""
    with pytest.raises(CloudBuildError) as caught:
        bench.call("POST", "/builds", request(**changes))
    assert (caught.value.code, caught.value.transient) == ("INVALID_ARGUMENT", False)
    return str(caught.value)


@pytest.mark.parametrize("name", ["invalid-tag", "arg-too-long", "logging-required", "substitution-not-matched"])
def test_the_samples_are_refused(bench: Bench, name: str) -> None:
    """The message is that of the sample."""
    changes: dict[str, Any] = {
        "invalid-tag": {"tags": ["ci/main"]},
        "arg-too-long": {"steps": [{"name": "bash", "args": ["-c", "x" * 10_001]}]},
        "logging-required": {"options": {"substitutionOption": "ALLOW_LOOSE"}},
        "substitution-not-matched": {"options": {"logging": "NONE"}, "substitutions": {"_REVISION": "1"}},
    }[name]
    with pytest.raises(CloudBuildError) as caught:
        bench.call("POST", "/builds", request(**changes))
    assert is_refusal(caught.value, f"error-{name}.http.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tags": ["a" * 129]}, "must match format"),
        ({"tags": [""]}, "must match format"),
        ({"tags": [str(number) for number in range(65)]}, "number of tags 65"),
        ({"tags": ["$_BRANCH"]}, 'invalid build tag "refs/heads/main"'),
        ({"steps": None}, "at least one build step"),
        ({"steps": [STEP] * 301}, "number of build steps 301"),
        ({"steps": [{"script": "true"}]}, "build step 0 must specify name"),
        ({"steps": [{**STEP, "args": ["a"]}]}, "script together with args"),
        ({"steps": [{**STEP, "entrypoint": "sh"}]}, "script together with args"),
        ({"steps": [{"name": "bash", "args": ["a"] * 101}]}, "too many args"),
        ({"steps": [{**STEP, "env": ["A"]}]}, "not of the form KEY=VALUE"),
        ({"steps": [{**STEP, "waitFor": ["later"]}, {**STEP, "id": "later"}]}, 'waits for unknown step "later"'),
        ({"steps": [{**STEP, "id": "a"}, {**STEP, "id": "a"}]}, 'duplicate id "a"'),
        ({"steps": [{**STEP, "timeout": "1801s"}]}, "timeout must be less"),
        ({"timeout": "86401s"}, "invalid timeout"),
        ({"queueTtl": "86401s"}, "invalid queueTtl"),
        ({"images": ["i"] * 201}, "number of images 201"),
        ({"substitutions": {"bad": "1"}}, '"bad" does not match format'),
        ({"substitutions": {"PROJECT_ID": "1"}}, '"PROJECT_ID" does not match format'),
        ({"substitutions": {"_" + "A" * 100: "1"}}, "too long (max: 100)"),
        ({"substitutions": {"_A": "x" * 4001}}, "too long (max: 4000)"),
        ({"substitutions": {f"_A{number}": "" for number in range(201)}}, "number of substitutions 201"),
        ({"steps": [{"name": "bash", "args": ["$HOME"]}]}, '"HOME" is not a valid built-in'),
        ({"steps": [{"name": "bash", "env": ["A=${OTHER}"]}]}, '"OTHER" is not a valid built-in'),
        ({"source": {"gitSource": {"url": "u"}, "storageSource": {}}}, "only one source"),
        ({"source": {"gitSource": {"revision": "main"}}}, "must specify url"),
        (
            {"source": {"connectedRepository": {"repository": "projects/p/locations/europe-west1/connections/c/x"}}},
            "must be in the location us-central1",
        ),
        ({"colour": "red"}, "Unknown name \"colour\" at 'build'"),
        ({"steps": [{**STEP, "colour": "red"}]}, "Unknown name \"colour\" at 'build.steps[0]'"),
        ({"timeout": "1 hour"}, "Invalid value at 'build.timeout'"),
        ({"timeout": 60}, "Invalid value at 'build.timeout'"),
        ({"tags": "a"}, "Invalid value at 'build.tags'"),
        ({"steps": {}}, "Invalid value at 'build.steps'"),
        ({"substitutions": {"_A": 1}}, "Invalid value at 'build.substitutions'"),
        ({"options": {"automapSubstitutions": "true"}}, "Invalid value at 'build.options.automapSubstitutions'"),
    ],
)
def test_other_bad_requests(bench: Bench, changes: dict[str, Any], message: str) -> None:
    """Each rule has its message, and no build is made."""
    assert message in refusal(bench, **changes)
    assert list(bench.service.store.newest_first()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"tags": ["a" * 128, "v1.2_x-y"]},
        {"steps": [{"name": "bash", "args": ["x" * 10_000, "$$HOME", "${_BRANCH}", "$_UNKNOWN", "$PROJECT_ID"]}]},
        {"steps": [{**STEP, "id": "a", "waitFor": ["-"]}, {**STEP, "waitFor": ["a", "-"]}]},
        {"steps": [{**STEP, "script": "echo $HOME"}]},
        {"serviceAccount": None, "options": {"substitutionOption": "ALLOW_LOOSE"}},
        {"options": {"substitutionOption": "ALLOW_LOOSE"}, "logsBucket": "gs://x"},
        {"source": None},
    ],
)
def test_good_requests(bench: Bench, changes: dict[str, Any]) -> None:
    """A literal dollar, unused keys and uses without a value pass, because substitutions are loose."""
    assert bench.create(**changes)["status"] == "QUEUED"


def test_strict_substitutions(bench: Bench) -> None:
    """Without ALLOW_LOOSE each use needs a value; as variables of all steps, all keys are used."""
    strict = {"logging": "NONE"}
    steps = [{"name": "bash", "args": ["$_A"]}]
    assert '"_A" is not matched in the substitution data' in refusal(
        bench, options=strict, steps=steps, substitutions={}, tags=None
    )
    bench.create(options=strict, steps=steps, substitutions={"_A": "1"}, tags=None)
    mapped = {**strict, "automapSubstitutions": True}
    bench.create(options=mapped, steps=[STEP], substitutions={"_A": "1"}, tags=None)


def test_the_length_of_an_argument_counts_after_substitution(bench: Bench) -> None:
    """Four values of 4,000 bytes are too long for one argument."""
    steps = [{"name": "bash", "args": ["$_LONG" * 3]}]
    assert "arg 0 too long" in refusal(bench, steps=steps, substitutions={"_LONG": "x" * 4000})


def test_tags_have_the_values_of_substitutions(bench: Bench) -> None:
    """So a build is found by a tag that its invocation decides."""
    build = bench.create(tags=["scheduler-invocation-${_SCHEDULER_INVOCATION}", "at-$SHORT_SHA", "in-$LOCATION"])
    assert build["tags"] == ["scheduler-invocation-8852505479846020432", "at-2f22765", "in-us-central1"]


def test_a_body_that_is_no_object(bench: Bench) -> None:
    """It is refused as a bad value."""
    with pytest.raises(CloudBuildError, match="Invalid value at 'build'"):
        bench.port.call("POST", "/v1/projects/p/locations/l/builds", [], seconds=1)  # type: ignore[arg-type]
