"""The file that maps builders to commands: patterns, commands, and errors with their place."""

from pathlib import Path

import pytest

from emulator.buildbucket.commands import PARALLEL
from emulator.buildbucket.identifiers import BuilderId
from emulator.buildbucket.plans import Command
from emulator.builds.builder_commands import BuilderCommands, choose_builders
from emulator.builds.builders_file import parse_builders, shell
from emulator.errors import LocalCloudError
from luci_scheduler.core.instants import MINUTE

LINUX = BuilderId("dawn", "ci", "Linux Tests")
GOOD = """
parallel = 3
[builders]
"try/*" = { command = ["make", "test"], timeout = "10m", env = { MODE = "try" } }
"dawn/ci/Linux *" = "sh linux.sh && echo done"
"ci/mac-?" = "sh mac.sh"
"*" = "sh build.sh"
"""


@pytest.mark.parametrize(
    ("builder", "line"),
    [
        (LINUX, "sh linux.sh && echo done"),
        (BuilderId("tint", "ci", "Linux Tests"), "sh build.sh"),
        (BuilderId("tint", "ci", "mac-1"), "sh mac.sh"),
        (BuilderId("tint", "ci", "mac-10"), "sh build.sh"),
    ],
)
def test_the_first_pattern_that_matches_counts(builder: BuilderId, line: str) -> None:
    assert parse_builders(GOOD, Path("b.toml")).find(builder) == shell(line)


def test_a_list_a_time_limit_and_variables() -> None:
    rules = parse_builders(GOOD, Path("b.toml"))
    assert rules.parallel == 3
    assert rules.find(BuilderId("p", "try", "x")) == Command(("make", "test"), env={"MODE": "try"}, timeout=10 * MINUTE)


def test_a_builder_that_no_pattern_matches() -> None:
    rules = parse_builders('[builders]\n"ci/*" = "true"\n', Path("b.toml"))
    assert rules.find(BuilderId("p", "ci.x", "y")) is None
    assert rules.find(BuilderId("p", "ci", "y")) == shell("true")
    assert rules.parallel == PARALLEL


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[builders]\nx", ":2:2: this is not TOML: Expected '=' after a key in a key/value pair"),
        ('[builders]\n"*" = "a"\n"*" = "b"', ":3:10: this is not TOML: Cannot overwrite a value"),
        ("builders = 3", ":1: builders must be a table"),
        ("\ncommand = 3", ':2: unknown key "command": the keys are parallel and builders'),
        ("parallel = 0", ":1: parallel must be a whole number from 1 to 1000, not 0"),
        ("parallel = true", ":1: parallel must be a whole number from 1 to 1000, not True"),
        ('[builders]\n# a/b/c/d\n"a/b/c/d" = "x"', ':3: "a/b/c/d" is no pattern: write builder, bucket/builder or'),
        ('[builders]\n"a//b" = "x"', ':2: "a//b" is no pattern'),
        ('[builders]\n"*" = " "', ':2: the command of "*" must be a line for the shell, or a list of texts'),
        ('[builders]\n"*" = ["a", 1]', ':2: the command of "*" must be'),
        ('[builders]\n"*" = []', ':2: the command of "*" must be'),
        ('[builders."*"]\ntimeout = "1m"', ':1: the command of "*" must be'),
        ('[builders."*"]\ncomand = "x"', ':2: "*" has the unknown key "comand": the keys are command, timeout, env'),
        ('[builders."ci/*"]\ncommand = "x"\ntimeout = "1 day"', ':1: timeout of "ci/*" must be a text such as "90s"'),
        ('[builders."ci/*"]\ncommand = "x"\ntimeout = 5', ':1: timeout of "ci/*" must be a text such as "90s"'),
        ('[builders."*"]\ncommand = "x"\nenv = { A = 1 }', ':1: env of "*" must be a table of texts'),
        (
            '[builders."*"]\ncommand = "x"\nenv = { "A B" = "1" }',
            ':3: "A B" in env of "*" is not the name of a variable',
        ),
    ],
)
def test_an_error_has_its_place(text: str, error: str) -> None:
    with pytest.raises(LocalCloudError) as raised:
        parse_builders(text, Path("my/b.toml"))
    assert str(raised.value).startswith(f"my/b.toml{error}")
    assert "\n" not in str(raised.value)


class TestWhileItRuns:
    """The file is read again when it changes."""

    @pytest.fixture
    def said(self) -> list[tuple[str, str]]:
        """The lines for the feed."""
        return []

    def test_the_file_precedes_the_command_for_every_builder(self, tmp_path: Path) -> None:
        file = tmp_path / "b.toml"
        file.write_text('parallel = 2\n[builders]\n"Linux Tests" = "linux"\n')
        commands = BuilderCommands(file, "every")
        assert commands.find(LINUX) == shell("linux")
        assert commands.find(BuilderId("p", "b", "x")) == shell("every")
        assert commands.parallel == 2

    def test_without_both_there_is_no_command(self, tmp_path: Path) -> None:
        assert BuilderCommands().find(LINUX) is None
        assert BuilderCommands(tmp_path / "none.toml").find(LINUX) is None

    def test_a_change_is_in_force_for_the_next_build(self, tmp_path: Path, said: list[tuple[str, str]]) -> None:
        file = tmp_path / "b.toml"
        commands = BuilderCommands(file, post=lambda kind, text: said.append((kind, text)))
        assert commands.find(LINUX) is None
        file.write_text('[builders]\n"*" = "first"\n')
        assert [commands.find(LINUX), commands.find(LINUX)] == [shell("first"), shell("first")]
        file.unlink()
        assert commands.find(LINUX) is None
        assert said == [("config", f"{file} is in force for the next builds")] * 2

    def test_after_a_bad_change_the_last_commands_stay(self, tmp_path: Path, said: list[tuple[str, str]]) -> None:
        file = tmp_path / "b.toml"
        file.write_text('[builders]\n"*" = "first"\n')
        commands = BuilderCommands(file, post=lambda kind, text: said.append((kind, text)))
        file.write_text("[builders]\n'*' = 1\n")
        assert [commands.find(LINUX), commands.find(LINUX)] == [shell("first"), shell("first")]
        ((kind, text),) = said
        assert kind == "config_problem"
        assert text.startswith(f"{file}:2: the command of ")
        assert text.endswith("; the last valid commands stay in force")

    def test_while_the_file_cannot_be_read_the_last_commands_stay(
        self, tmp_path: Path, said: list[tuple[str, str]]
    ) -> None:
        file = tmp_path / "b.toml"
        file.write_text('[builders]\n"*" = "first"\n')
        commands = BuilderCommands(file, post=lambda kind, text: said.append((kind, text)))
        file.unlink()
        file.mkdir()
        assert commands.find(LINUX) == shell("first")
        text = f"{file} cannot be read: Is a directory; the last valid commands stay in force"
        assert said == [("config_problem", text)]

    def test_a_bad_file_at_the_start_is_an_error(self, tmp_path: Path) -> None:
        file = tmp_path / "b.toml"
        file.write_bytes(b"\xff")
        with pytest.raises(LocalCloudError, match="it is not UTF-8"):
            BuilderCommands(file)

    def test_a_wanted_file_must_exist(self, tmp_path: Path) -> None:
        file = tmp_path / "b.toml"
        with pytest.raises(LocalCloudError, match=r"there is no file .*: write it, or name another one in --builders"):
            choose_builders(file, tmp_path)
        file.write_text("")
        assert choose_builders(file, tmp_path) == file
        assert choose_builders(None, tmp_path) == tmp_path / "builders.toml"
