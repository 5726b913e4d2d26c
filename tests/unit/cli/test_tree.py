"""The parser, its reference page, and completion in real shells."""

import shutil
import subprocess
from pathlib import Path

import pytest

from luci_scheduler.cli.errors import Exit
from luci_scheduler.cli.main import main, make_parser
from luci_scheduler.cli.tree import leaves, options_of, variable
from tests.unit.cli.reference import MARK, PAGE, rendered


def test_the_reference_page_matches_the_parser() -> None:
    """The page has every verb, option, variable and exit code; ``python -m tests.unit.cli.reference`` rewrites it."""
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(MARK)[2] == "\n" + rendered()
    for code in Exit:
        assert f"| {int(code)} |" in page
    for _, leaf in leaves(make_parser()):
        for action in options_of(leaf):
            assert f"`{variable(action)}`" in page


def test_every_verb_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Every verb has a function to run, and its help describes it."""
    for path, leaf in leaves(make_parser()):
        assert callable(leaf.get_default("run")), path
        with pytest.raises(SystemExit, match="0"):
            main([*path, "--help"], {})
        said = capsys.readouterr().out
        assert " ".join(path) in said
        # The help may break the line anywhere between two words.
        assert str(leaf.description) in " ".join(said.split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["luci-scheduler", "jo"], {"job", "jobs"}),
        (["luci-scheduler", "job", ""], {"show", "pause", "resume", "abort", "trigger"}),
        (["luci-scheduler", "config", "di"], {"diff"}),
        (["luci-scheduler", "invocation", "log", "p/j/1", "--fo"], {"--follow"}),
        (["luci-scheduler", "jobs", "p", "--js"], {"--json"}),
        (["luci-scheduler", "backfill", "--y"], {"--yes"}),
        (["luci-scheduler", "jobs", "pro"], {"proj/"}),
        (["luci-scheduler", "job", "show", "proj/"], {"proj/job", "proj/poller"}),
        (["luci-scheduler", "logs", "--follow", "proj/j"], {"proj/job"}),
        (["luci-scheduler", "config", "validate", "pro"], set()),
    ],
)
def test_completion_in_bash(
    line: list[str], expected: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Completion offers the words of the tree, the options of the verb, and the names that the command prints."""
    assert main(["completion", "bash"], {}) == 0
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    words = " ".join(f"'{word}'" for word in line)
    variables = f"COMP_WORDS=({words}); COMP_CWORD={len(line) - 1}"
    # The shell starts the command for the names; this one takes its place and has the same interface.
    chosen = "{ case $2 in */*) printf '%s\n' proj/job proj/poller ;; *) echo proj/ ;; esac; }"
    names = f"luci-scheduler() {chosen}"
    asked = f"{names}; source {script}; {variables}; _luci_scheduler; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    bash = shutil.which("bash") or "/bin/bash"
    ran = subprocess.run([bash, "--norc", "-c", asked], capture_output=True, text=True, check=True, timeout=20)
    assert ran.stderr == ""
    assert set(ran.stdout.split()) == expected


def test_completion_for_fish(capsys: pytest.CaptureFixture[str]) -> None:
    """Each word, option and name has its line; fish itself evaluates them."""
    main(["completion", "fish"], {})
    lines = capsys.readouterr().out.splitlines()
    assert "complete -c luci-scheduler -n '__luci_scheduler_at \"job\"' -a 'show pause resume abort trigger'" in lines
    assert "complete -c luci-scheduler -n '__luci_scheduler_in job show' -l json" in lines
    assert "complete -c luci-scheduler -n '__luci_scheduler_in invocations' -l limit -r" in lines
    named = [line.partition(" -n '")[2].partition("'")[0] for line in lines if "complete-names" in line]
    assert {"__luci_scheduler_in jobs", "__luci_scheduler_in logs", "__luci_scheduler_in invocation rerun"} <= {*named}
    assert "__luci_scheduler_in config validate" not in named
    assert all(line.count("'") % 2 == 0 for line in lines)


def test_completion_for_zsh_uses_its_bash_mode(capsys: pytest.CaptureFixture[str]) -> None:
    """The same script works in zsh after bashcompinit."""
    main(["completion", "bash"], {})
    bash = capsys.readouterr().out
    main(["completion", "zsh"], {})
    assert capsys.readouterr().out == f"autoload -U +X bashcompinit && bashcompinit\n{bash}"
