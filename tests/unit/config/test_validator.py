"""Validation of configs: cases that the vectors omit, and the place of each problem."""

from pathlib import Path

import pytest
from google.protobuf import text_format

from luci_scheduler.config import task_rules
from luci_scheduler.config.config_rules import ConfigRules
from luci_scheduler.config.parsing import MAX_DEFINITIONS, MAX_MESSAGES
from luci_scheduler.config.problems import Severity
from luci_scheduler.config.task_rules import MAX_ENTRIES, MAX_INSTRUCTIONS
from luci_scheduler.config.validator import MAX_PATTERNS, MAX_TARGETS, validate
from luci_scheduler.core.commit_hosts import CommitHosts, ConfiguredHost, HostKind
from luci_scheduler.core.era import Era
from luci_scheduler.core.instants import parse_rfc3339
from luci_scheduler.core.path_filter import compose
from luci_scheduler.core.regexps import compile_regexp
from luci_scheduler.core.sizes import MAX_TASK_BYTES
from luci_scheduler.managers.gitiles.check import MAX_ENTRY

SAMPLE = (Path(__file__).parent / "sample.cfg").read_text(encoding="utf-8")
BUILDBUCKET = 'buildbucket { server: "h.com" bucket: "ci" builder: "b" }'
ACLS = 'acls { role: OWNER granted_to: "group:g" }'


def _errors(text: str, *, era: Era = Era.V2, strict: bool = False) -> list[str]:
    return [str(error) for error in validate(text, project="p", era=era, strict=strict, file="F").errors]


def test_the_sample_is_valid_and_its_old_fields_cause_warnings() -> None:
    """Access rules and old bucket names are accepted, each with a warning at its line."""
    validated = validate(SAMPLE, project="thing", file="F")
    assert validated.errors == ()
    assert [str(warning) for warning in validated.warnings] == [
        (
            'F:35: warning: job "linux-rel" / task: the bucket name "luci.thing.ci" has the form of Buildbucket v1; '
            'it is read as "thing:ci"'
        ),
        "F:2: warning: 'acl_sets' is deprecated and not used: realms decide on access",
        "F:34: warning: job \"linux-rel\": 'acl_sets' is deprecated and not used: realms decide on access",
        "F:50: warning: job \"Windows (x64)\": 'acls' is deprecated and not used: realms decide on access",
        "F:10: warning: trigger \"main-gitiles\": 'acl_sets' is deprecated and not used: realms decide on access",
    ]


@pytest.mark.parametrize(
    ("repo", "error"),
    [
        ("git@github.com:a/b.git", "only https scheme is supported: write https://github.com/a/b"),
        ("ssh://git@github.com/a/b", "only https scheme is supported: write https://github.com/a/b"),
        ("https://github.com/a", "a repository's URL on this host is https://github.com/OWNER/NAME"),
        ("http://github.com/a/b", "only https scheme is supported"),
        ("https://github.com/a/b", ""),
        ("https://x.googlesource.com/a", ""),
    ],
)
def test_repositories_on_commit_hosts(repo: str, error: str) -> None:
    """A URL that no poll could read is refused at its line, and the error shows what to write."""
    text = f'trigger {{\n id: "t"\n gitiles {{\n repo: "{repo}" refs: "refs/heads/m" }} }}'
    validated = validate(text, project="p", file="F")
    expected = [f'F:4: trigger "t" / task / repo: {error}'] if error else []
    assert [str(problem) for problem in validated.problems] == expected


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (
            'job { cloud_build { steps { scirpt: "x" } } }',
            '"CloudBuildStep" has no field named "scirpt"; did you mean script?',
        ),
        ("job { cloudbuild { } }", '"Job" has no field named "cloudbuild"; did you mean cloud_build?'),
        ("job { unlike_any { } }", '"Job" has no field named "unlike_any".'),
        (
            "job { triggering_policy { kind: NEWEST_FRIST } }",
            "has no value named NEWEST_FRIST; the values are GREEDY_BATCHING, LOGARITHMIC_BATCHING, NEWEST_FIRST",
        ),
    ],
)
def test_a_misspelled_name_gets_the_names_that_exist(text: str, end: str) -> None:
    """The parser itself only says that there is no such name."""
    (problem,) = validate(text, project="p", file="F").problems
    assert str(problem).endswith(end)


def test_a_repository_on_an_unknown_host_is_valid_with_a_warning() -> None:
    """As in the original, whose polls of it fail. The hosts are those of the installation."""
    text = 'trigger { id: "t" gitiles { repo: "https://git.example.com/a/b" refs: "refs/heads/m" } }'
    validated = validate(text, project="p", file="F")
    assert validated.errors == ()
    (warning,) = validated.warnings
    assert 'no commit host is configured for "git.example.com": its polls fail' in warning.message
    for host in ("www.github.com", "ada@github.com", "github.com:443"):
        (near,) = validate(text.replace("git.example.com", host), project="p", file="F").problems
        end = f'no commit host is configured for "{host}": its polls fail; write https://github.com/OWNER/NAME'
        assert near.message.endswith(end)
    hosts = CommitHosts({"git.example.com": ConfiguredHost(HostKind.GITHUB, "https://git.example.com/api/v3")})
    assert validate(text, project="p", rules=ConfigRules(hosts=hosts)).problems == ()


def test_strict_refuses_old_bucket_names() -> None:
    """The error names the bucket to use, as the original of today does."""
    (error,) = _errors(SAMPLE, strict=True)
    assert error.startswith('F:35: job "linux-rel" / task: ')
    assert 'use "thing:ci" instead' in error


def test_all_problems_at_once_each_with_its_line() -> None:
    """Errors of a definition come in the original's order; each has the line of the wrong field."""
    text = """
job {
  id: "a/b"
  realm: "A"
  schedule: "* *"
  triggering_policy {
    max_batch_size: -1
    kind: LOGARITHMIC_BATCHING
  }
  buildbucket {
    server: "https://h"
    bucket: "ci"
    builder: "b"
    tags: ["a:b", "builder:x",
           "user_agent:x"]
  }
}
trigger {
  id: "t"
  triggers: ["a/b",
             "x", "y"]
  gitiles {
    repo: "x/y"
    refs: "refs/heads/main"
    refs: "regexp:refs/heads/["
    path_regexps: ["a", "b$"]
  }
}
"""
    assert [error.partition(" - ")[0].partition(": missing ")[0] for error in _errors(text)] == [
        "F:4: job \"a/b\": bad 'realm' field",
        'F:3: job "a/b": "a/b" is not valid value for \'id\' field (it must match ^[0-9A-Za-z_\\-\\. \\)\\(]{1,100}$)',
        "F:5: job \"a/b\": * * is not valid value for 'schedule' field",
        'F:7: job "a/b" / triggering_policy: max_batch_size should be positive, got -1',
        'F:6: job "a/b" / triggering_policy: log_base should be larger or equal 1.0001, got 0.000000',
        'F:11: job "a/b" / task: field \'server\' should be just a host, not a URL: "https://h"',
        'F:15: job "a/b" / task: tag "user_agent" is reserved',
        'F:21: trigger "t": referencing unknown job "x" in \'triggers\' field',
        'F:21: trigger "t": referencing unknown job "y" in \'triggers\' field',
        'F:23: trigger "t" / task / repo: not an absolute url: "x/y"',
        'F:25: trigger "t" / task / refs / regexp:refs/heads/[: invalid regexp',
        'F:26: trigger "t" / task / path_regexps "b$": ^ and $ qualifiers are added automatically, please remove them',
    ]


@pytest.mark.parametrize(
    ("acls", "problem"),
    [
        (ACLS, None),
        ('acl_sets: "good"', None),
        ("", "Job or Trigger must have OWNER acl set"),
        ('acls { granted_to: "group:g" }', "Job or Trigger must have OWNER acl set"),
        (f'{ACLS} acl_sets: "x"', 'acl_sets: referencing AclSet "x" which doesn\'t exist'),
        (f"{ACLS} acls {{ role: READER }}", "acls: missing granted_to for role"),
        (f'{ACLS} acls {{ granted_to: "somebody" }}', 'acls: invalid granted_to "somebody"'),
        (f'{ACLS} acls {{ granted_to: "group:" }}', 'acls: invalid granted_to "group:"'),
        (f'{ACLS} acls {{ granted_to: "a@example.com" }}', None),
        (f'{ACLS} acls {{ granted_to: "user:a@example.com" }}', None),
        (f'{ACLS} acls {{ granted_to: "anonymous:anonymous" }}', None),
        (ACLS + "".join(f'acls {{ granted_to: "group:g{n}" }}' for n in range(31)), None),
        (
            ACLS + "".join(f'acls {{ granted_to: "group:g{n}" }}' for n in range(32)),
            "Job or Trigger can have at most 32 acls, but 33 given",
        ),
    ],
)
def test_access_rules_of_2021(acls: str, problem: str | None) -> None:
    """Every definition needs an owner; grants are counted once."""
    text = f'acl_sets {{ name: "good" {ACLS} {ACLS} }} job {{ id: "x" noop {{}} {acls} }}'
    errors = _errors(text, era=Era.V1)
    assert (not errors) if problem is None else (len(errors) == 1 and problem in errors[0])


def test_acl_sets_of_2021() -> None:
    """The sets are checked first: their names must be valid, and they must have entries."""
    text = f"""acl_sets {{ name: "a b" {ACLS} }}
acl_sets {{ name: "c" {ACLS} }}
acl_sets {{ name: "c" {ACLS} }}
acl_sets {{ name: "d" }}
job {{ noop {{}} acl_sets: "c" }}
"""
    assert _errors(text, era=Era.V1) == [
        'F:1: acl_sets "a b": "a b" is not valid value for \'name\' field',
        'F:3: acl_sets "c": aclSet name "c" is not unique',
        'F:4: acl_sets "d": aclSet "d" has no entries',
        "F:5: job \"(empty)\": missing 'id' field'",
    ]


def test_newer_features_are_refused_by_the_rules_of_2021() -> None:
    """The realm ``@project`` and the policy NEWEST_FIRST came later, and a realm could not supply a bucket."""
    fields = 'triggering_policy { kind: NEWEST_FIRST } buildbucket { server: "s" builder: "b" }'
    text = f'job {{ id: "x" realm: "@project" {ACLS} {fields} }}'
    assert [error.rpartition(": ")[2] for error in _errors(text, era=Era.V1)][1:] == [
        "unrecognized policy kind 3",
        "'bucket' field is required",
    ]
    assert _errors(text) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://e.com/a?b=%zz", None),
        ("mailto:x", None),
        ("https://e.com/%zz", "invalid URL"),
        ("https://e.com:port/", "invalid URL"),
        ("https://[::1/", "invalid URL"),
        ("https://e.com/\\n", "invalid URL"),
        ("https://e com/", "invalid URL"),
        (":x", "invalid URL"),
        ("1a:b", "invalid URL"),
        ("//e.com/", "not an absolute url"),
    ],
)
def test_bad_urls_are_refused(url: str, message: str | None) -> None:
    """The validator refuses the URLs that Go's parser refuses."""
    errors = _errors(f'job {{ id: "x" url_fetch {{ url: "{url}" }} }}')
    assert (not errors) if message is None else (len(errors) == 1 and message in errors[0])


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("kind: 77", "unrecognized policy kind 77"),
        ("kind: LOGARITHMIC_BATCHING log_base: nan", "log_base should be larger or equal 1.0001, got nan"),
        ("kind: LOGARITHMIC_BATCHING log_base: 1.0001", None),
        ("kind: NEWEST_FIRST pending_timeout { nanos: -1 }", "pending_timeout should be positive, got -1ns"),
        ("kind: NEWEST_FIRST pending_timeout { seconds: 315576000000 }", None),
        (
            "pending_timeout { seconds: 9223372036854775807 }",
            "pending_timeout is non-zero with non-NEWEST_FIRST policy",
        ),
    ],
)
def test_numbers_of_policies_have_limits(policy: str, message: str | None) -> None:
    """The numbers are at the limits."""
    errors = _errors(f'job {{ id: "x" noop {{}} triggering_policy {{ {policy} }} }}')
    assert (not errors) if message is None else (len(errors) == 1 and message in errors[0])


def test_a_trigger_without_refs_causes_a_warning() -> None:
    """Such a trigger is valid, as in the original, but watches nothing."""
    found = validate('trigger { id: "t" gitiles { repo: "https://a.googlesource.com/b" } }').problems
    assert [(problem.severity, problem.message) for problem in found] == [
        (Severity.WARNING, "no 'refs' are given: nothing is watched")
    ]


def _gitiles(fields: str) -> str:
    return f'trigger {{ id: "t" gitiles {{ repo: "https://a.googlesource.com/b" refs: "refs/heads/m" {fields} }} }}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('job { id: "x" noop {} }\n' * (MAX_DEFINITIONS + 1), f"at most {MAX_DEFINITIONS} are allowed"),
        (
            'job { id: "x" noop {} } trigger { id: "t" noop {} ' + 'triggers: "x"\n' * (MAX_TARGETS + 1) + "}",
            f"at most {MAX_TARGETS} are allowed",
        ),
        (_gitiles('refs: "refs/heads/m"\n' * MAX_ENTRIES), f"1001 'refs' are given, at most {MAX_ENTRIES} are allowed"),
        (_gitiles('path_regexps: "a"\n' * (MAX_ENTRIES + 1)), f"at most {MAX_ENTRIES} are allowed"),
        (_gitiles('path_regexps: "' + "a" * (MAX_ENTRY + 1) + '"'), f"at most {MAX_ENTRY} are allowed"),
        (_gitiles('refs: "refs/heads/' + "a" * MAX_ENTRY + '"'), f"at most {MAX_ENTRY} are allowed"),
        (_gitiles(('path_regexps: "' + "a" * 1999 + '"\n') * 11), "the patterns are not valid as one regexp"),
        (
            _gitiles(('refs: "regexp:refs/heads/' + "a" * 1900 + '.+"\n') * 11),
            "the patterns are not valid as one regexp",
        ),
        (_gitiles('path_regexps: "((a{100}){100}){100}"'), "invalid regexp"),
        (
            "".join(_gitiles(f'path_regexps: "a{number}" path_regexps: "b{number}"') for number in range(501)),
            f"the file has 1002 different patterns, at most {MAX_PATTERNS} are allowed",
        ),
        (_gitiles((r'path_regexps: "' + r"\\pN+" * 50 + '"\n') * 60), "as one regexp"),
        ('job { id: "x" schedule: "' + "1," * 600 + '" noop {} }', "has 1200 characters, at most 1000 are allowed"),
        (
            'job { id: "x" buildbucket { server: "s" bucket: "b" builder: "b" ' + "tags: 'a:b'\n" * 1001 + "} }",
            f"at most {MAX_ENTRIES} are allowed",
        ),
    ],
    ids=range(13),
)
def test_excessive_sizes_are_refused(text: str, message: str) -> None:
    """The error about a size that no real config has gives the limit."""
    errors = _errors(text)
    assert len(errors) == 1
    assert message in errors[0]


def test_a_file_with_too_many_jobs_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing 100,000 jobs in 2.9 MB takes eleven seconds. Comments and texts do not count; list items do."""
    fine = 'job { id: "a" noop {} properties: "job { trigger <" } # job { job {\n'.replace(
        'properties: "job { trigger <" ', ""
    )
    text = fine + "# job {\n" * MAX_DEFINITIONS + f"trigger {{ id: 'job {{ \\' job {{ {'job:<' * 300}' noop {{}} }}"
    assert [error for error in _errors(text) if "at most" in error] == []
    monkeypatch.setattr(text_format, "Parse", None)
    for form in ("job {}\n", "trigger<>", "job:\n{ }", "job : <>;"):
        (error,) = _errors(form * 100_000)
        assert error == f"F:1: the file has 100000 jobs and triggers, at most {MAX_DEFINITIONS} are allowed"
    (error,) = _errors("job: [" + ",".join(["{}"] * 100_000) + "]")
    assert error == f"F:1: the file has 100000 messages in braces, at most {MAX_MESSAGES} are allowed"


def test_patterns_with_too_large_a_program_are_refused_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is at the list that exceeds the limit; no later pattern is compiled."""
    limit = MAX_INSTRUCTIONS // 10
    monkeypatch.setattr(task_rules, "MAX_INSTRUCTIONS", limit)
    large = "(a?){900}(a){900}"
    texts = [_gitiles(f'path_regexps: "{n}{large}{large}{large}"').replace('"t"', f'"t{n}"') for n in range(70)]
    text = "\n".join(texts) + "\n" + _gitiles('path_regexps: "(a{100}){100}"')
    (error,) = _errors(text)
    line = int(error.split(":")[1])
    assert f"compile to more than {limit} instructions" in error
    size = compile_regexp(compose([f"1{large}{large}{large}"])).size
    assert line == limit // size + 1
    assert _errors("\n".join([texts[0]] * 70).replace('"t0"', '"t"'))[0].endswith('duplicate id "t"')


def test_patterns_refused_as_too_large_also_count() -> None:
    """Each costs as much time as the largest accepted pattern."""
    text = "\n".join(_gitiles(rf'path_regexps: "{n}(\\pL\\d?){{300}}"').replace('"t"', f'"t{n}"') for n in range(60))
    errors = _errors(text)
    too_large = [error for error in errors if "too large" in error]
    assert len(too_large) == MAX_INSTRUCTIONS // 40_000 + 1
    (last,) = [error for error in errors if "instructions" in error]
    assert last.startswith(f"F:{len(too_large)}: ")


@pytest.mark.parametrize(
    ("schedule", "never"),
    [
        ("0 5 * * Mon-Sun", True),
        ("0 23 * * 5-7", True),
        ("0 5 30 2 *", True),
        ("0 5 31 4,6,9,11 *", True),
        ("0 0 0 1 1 * 2020", True),
        ("0 0 0 29 2 * 2097-2099", True),
        ("0 5 29 2 *", False),
        ("0 0 0 1 1 * 2090", False),
        ("0 5 * * *", False),
        ("with 10m interval", False),
        ("continuously", False),
        ("triggered", False),
    ],
)
def test_a_schedule_that_never_fires_causes_a_warning(schedule: str, never: bool) -> None:
    """The original accepts it, so it causes a warning at its line, not an error."""
    text = f'job {{\n  id: "x"\n  noop {{}}\n  schedule: "{schedule}"\n}}'
    validated = validate(text, file="F", now=parse_rfc3339("2026-03-01T12:00:00Z"))
    expected = [f'F:4: warning: job "x": the schedule "{schedule}" never fires: no date matches it'] if never else []
    assert [str(problem) for problem in validated.problems] == expected


def test_escapes_that_go_refuses_cause_warnings() -> None:
    """Each text gets one warning, at its first unknown escape. The meaning of the text does not change."""
    text = r"""# "\." in a comment is none
trigger {
  id: "t"
  gitiles {
    repo: "https://a.googlesource.com/b"
    refs: 'regexp:refs/heads/\d+'  # '\8'
    path_regexps: "a\\.b" "\.c\-d"
    path_regexps: ["\a\b\f\n\r\t\v\?\'\"\001\x41\u00e9\U0001f600",
      "x\-8"]
  }
}
"""
    validated = validate(text, file="F")
    assert [str(problem) for problem in validated.problems] == [
        f"F:{line}: warning: LUCI refuses files with the unknown escape {escape}; here it is read literally"
        for line, escape in ((6, r"\d"), (7, r"\."), (9, r"\-"))
    ]
    assert [problem.column for problem in validated.problems] == [30, 28, 9]
    task = validated.message.trigger[0].gitiles
    assert (task.refs[0], task.path_regexps[0], task.path_regexps[2]) == (
        r"regexp:refs/heads/\d+",
        r"a\.b\.c\-d",
        r"x\-8",
    )


def test_the_number_of_warnings_about_escapes_is_limited() -> None:
    """A file full of escapes does not fill the memory with warnings."""
    text = 'trigger { id: "t" gitiles { repo: "https://a.googlesource.com/b" refs: "refs/heads/m" }}\n' + "# x\n" * 3
    many = _gitiles(r'path_regexps: "\."' * 200) + text.replace('"t"', '"u"')
    assert sum("unknown escape" in str(problem) for problem in validate(many).problems) == 50


def test_unknown_targets_are_an_error_or_a_warning() -> None:
    """The installation decides; the warning has the place of the error."""
    text = 'job { id: "a" noop {} }\ntrigger {\n  id: "t" noop {}\n  triggers: "a"\n  triggers: "x"\n}'
    said = 'trigger "t": referencing unknown job "x" in \'triggers\' field'
    assert _errors(text) == [f"F:5: {said}"]
    lenient = validate(text, file="F", rules=ConfigRules(lenient_triggers=True))
    assert [str(problem) for problem in lenient.problems] == [f"F:5: warning: {said}"]


def test_a_projects_invocations_are_bounded() -> None:
    """There is one error, at the definition that exceeds the limit. Disabled jobs do not count."""
    jobs = [f'job {{ id: "j{n}" noop {{}} triggering_policy {{\n max_concurrent_invocations: 3 }} }}' for n in range(4)]
    text = "\n".join(
        [*jobs, 'job { id: "off" disabled: true noop {} triggering_policy { max_concurrent_invocations: 99 } }']
    )
    rules = ConfigRules(max_active_invocations=8)
    assert [str(error) for error in validate(text, file="F", rules=rules).errors] == [
        (
            'F:6: job "j2" / triggering_policy: with this definition the jobs and triggers '
            "of the file may have 9 invocations at a time, at most 8 are allowed: lower max_concurrent_invocations"
        )
    ]
    assert validate(text, rules=ConfigRules(max_active_invocations=12)).errors == ()
    default = "".join(f'job {{ id: "j{n}" noop {{}} }}' for n in range(9))
    assert len(validate(default, rules=rules).errors) == 1
    assert validate(default, rules=ConfigRules(max_active_invocations=9)).errors == ()


def test_a_task_that_leaves_no_room_for_its_triggers_is_refused() -> None:
    """The error is at the task and gives the limit in stored bytes. A task of exactly that size is allowed."""
    stored = '{"server":"h.com","bucket":"ci","builder":"b","properties":["é:"]}'.encode()
    text = 'job {{\n id: "x"\n buildbucket {{ server: "h.com" bucket: "ci" builder: "b" properties: "é:{}" }} }}'
    value = "x" * (MAX_TASK_BYTES - len(stored))
    assert _errors(text.format(value)) == []
    assert _errors(text.format(value + "é")) == [
        f'F:3: job "x" / task: the task has {MAX_TASK_BYTES + 2} bytes, at most {MAX_TASK_BYTES} are allowed'
    ]


def test_a_gitiles_task_that_leaves_no_room_for_its_triggers_is_refused() -> None:
    """Its entries are short enough and few enough, but too large together."""
    refs = "".join(f'refs: "refs/heads/{number}-{"a" * 1900}"\n' for number in range(100))
    (error,) = _errors(_gitiles(refs))
    assert f"at most {MAX_TASK_BYTES} are allowed" in error


def test_messages_are_safe_on_a_terminal() -> None:
    """Control characters from the file are escaped, and long texts are cut."""
    text = 'job { id: "\\033[31m" schedule: "\\n\\033]0;x\\007' + "y" * 900 + '" realm: "\\r" noop {} }'
    errors = _errors(text)
    assert len(errors) == 3
    assert all(error.isprintable() and len(error) < 1100 for error in errors)
