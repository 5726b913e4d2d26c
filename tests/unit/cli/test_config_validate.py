"""``luci-scheduler config validate``."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from luci_scheduler.cli.main import main

GOOD = 'job { id: "a" noop {} }\n'
BAD = 'job {\n  id: "a"\n}\ntrigger {\n  id: "t"\n  noop {}\n  triggers: "x"\n}\n'
OLD = 'job { id: "a" buildbucket { server: "h" bucket: "luci.tint.ci" builder: "b" } }\n'


def _write(folder: Path, **configs: str) -> Path:
    for project, text in configs.items():
        (folder / project).mkdir()
        (folder / project / "luci-scheduler.cfg").write_text(text, encoding="utf-8")
    return folder


def test_a_good_config_has_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A good config gives a summary and exit code 0."""
    _write(tmp_path, p=GOOD)
    assert main(["config", "validate", str(tmp_path / "p" / "luci-scheduler.cfg")]) == 0
    assert capsys.readouterr().out == "1 file checked: 0 errors, 0 warnings\n"


def test_every_problem_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Problems of all files of a folder are listed with file and line; the exit code is 1."""
    _write(tmp_path, bad=BAD, good=GOOD, old=OLD)
    assert main(["config", "validate", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f'{tmp_path}/bad/luci-scheduler.cfg:1: job "a": can\'t find a recognized task definition inside Job',
        f'{tmp_path}/bad/luci-scheduler.cfg:7: trigger "t": referencing unknown job "x" in \'triggers\' field',
        (
            f'{tmp_path}/old/luci-scheduler.cfg:1: warning: job "a" / task: the bucket name "luci.tint.ci" has '
            'the form of Buildbucket v1; it is read as "tint:ci"'
        ),
        "3 files checked: 2 errors, 1 warning",
    ]


def test_options_change_the_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--quiet`` hides warnings, ``--strict`` makes old bucket names errors, ``--era 2021`` requires owners."""
    file = str(_write(tmp_path, tint=OLD) / "tint")
    assert main(["config", "validate", "--quiet", file]) == 0
    assert capsys.readouterr().out == "1 file checked: 0 errors, 1 warning\n"
    assert main(["config", "validate", "--strict", file]) == 1
    assert 'use "ci" instead' in capsys.readouterr().out
    assert main(["config", "validate", "--strict", "--project", "other", file]) == 1
    assert 'use "tint:ci" instead' in capsys.readouterr().out
    assert main(["config", "validate", "--era", "2021", file]) == 1
    assert "must have OWNER acl set" in capsys.readouterr().out


def test_lenient_triggers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown target is a warning, as in an installation with that setting."""
    text = 'trigger {\n  id: "t"\n  noop {}\n  triggers: "x"\n}\n'
    file = str(_write(tmp_path, tint=text) / "tint")
    assert main(["config", "validate", file]) == 1
    assert "referencing unknown job" in capsys.readouterr().out
    assert main(["config", "validate", "--lenient-triggers", file]) == 0
    path = f"{file}/luci-scheduler.cfg"
    assert capsys.readouterr().out.splitlines() == [
        f'{path}:4: warning: trigger "t": referencing unknown job "x" in \'triggers\' field',
        "1 file checked: 0 errors, 1 warning",
    ]


def test_hosts_of_github_enterprise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command reads no settings: a warning names the option for the hosts that the installation knows."""
    text = 'trigger {{ id: "t" gitiles {{ repo: "{}" refs: "refs/heads/main" }} }}'
    paths = ("https://git.example.com/ada/hello", "https://github.com/ada", "https://git.example.com/ada")
    folder = str(_write(tmp_path, **{f"p{number}": text.format(path) for number, path in enumerate(paths)}))
    assert main(["config", "validate", folder]) == 1
    warned = capsys.readouterr().out
    assert warned.count("(for luci-scheduler config: --github-hosts)\n") == 2
    assert main(["config", "validate", "--github-hosts", "Git.example.com,git2.example.com", folder]) == 1
    prefix, form = 'trigger "t" / task / repo: ', "a repository's URL on this host is https://"
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/p1/luci-scheduler.cfg:1: {prefix}{form}github.com/OWNER/NAME",
        f"{tmp_path}/p2/luci-scheduler.cfg:1: {prefix}{form}git.example.com/OWNER/NAME",
        "3 files checked: 2 errors, 0 warnings",
    ]
    with pytest.raises(SystemExit):
        main(["config", "validate", "--github-hosts", "https://git.example.com", folder])
    assert "is no list of host names such as git.example.com,git2.example.com" in capsys.readouterr().err


def test_a_schedule_in_the_past(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command has a clock."""
    file = str(_write(tmp_path, p='job { id: "a" schedule: "0 0 0 1 1 * 2020" noop {} }') / "p")
    assert main(["config", "validate", file]) == 0
    assert 'warning: job "a": the schedule "0 0 0 1 1 * 2020" never fires' in capsys.readouterr().out


def test_json_has_the_same_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One document has the same problems."""
    _write(tmp_path, bad=BAD, good=GOOD)
    assert main(["config", "validate", "--json", str(tmp_path)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["errors"], document["warnings"]) == (2, 0)
    assert [(file["project"], file["valid"]) for file in document["files"]] == [("bad", False), ("good", True)]
    assert document["files"][0]["problems"][1] == {
        "severity": "error",
        "line": 7,
        "column": 3,
        "path": ["trigger", "t"],
        "message": "referencing unknown job \"x\" in 'triggers' field",
    }


@pytest.mark.parametrize(
    "arguments", [[], ["config"], ["config", "validate"], ["config", "validate", "--era", "2019", "x"]]
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, with a usage message on standard error."""
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "usage: luci-scheduler" in capsys.readouterr().err


def test_missing_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file and a folder without configs are wrong usage, not an empty success."""
    assert main(["config", "validate", str(tmp_path / "no.cfg")]) == 2
    assert "no.cfg is unreadable: No such file" in capsys.readouterr().err
    assert main(["config", "validate", str(tmp_path)]) == 2
    assert "no luci-scheduler.cfg in the folder" in capsys.readouterr().err


def test_it_needs_no_cloud(tmp_path: Path) -> None:
    """The installed command loads no Google client and no HTTP library; it loads RE2 only for a pattern."""
    _write(tmp_path, p=GOOD)
    program = (
        "import sys; from luci_scheduler.cli.main import main; code = main(sys.argv[1:]);"
        "print(sorted(name for name in sys.modules"
        " if name.startswith(('google.cloud.', 'google.auth', 'google.api_core', 'grpc', 'requests', 're2'))));"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "config", "validate", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_command_is_installed(tmp_path: Path) -> None:
    """The entry point of the package is this command."""
    _write(tmp_path, p=BAD)
    command = Path(sys.executable).parent / "luci-scheduler"
    done = subprocess.run([command, "config", "validate", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.endswith("1 file checked: 2 errors, 0 warnings\n")
