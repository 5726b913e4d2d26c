"""The README of each Terraform module has current tables of inputs, outputs and resources."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "infra/readme.py"
_spec = importlib.util.spec_from_file_location("readme", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
readme = importlib.util.module_from_spec(_spec)
sys.modules["readme"] = readme  # a dataclass looks its module up
_spec.loader.exec_module(readme)

VARIABLES = """
variable "size" {
  type = object({
    cpu   = optional(string, "a, (b")
    inner = optional(object({ count = number, names = optional(list(string)) }), {})
  })
  default     = { cpu = "1" }
  description = "A \\"size\\" | with parts."

  validation {
    condition = true
  }
}

variable "rules" {
  type        = list(object({ host = string }))
  description = <<-EOT
    First line.
    Second line.
  EOT
}
"""
ROWS = [
    '| `size` | object | `{ cpu = "1" }` | A "size" \\| with parts. |',
    '| `size.cpu` | string | `"a, (b"` | |',
    "| `size.inner` | object | `{}` | |",
    "| `size.inner.count` | number | required | |",
    "| `size.inner.names` | list of string | `null` | |",
    "| `rules` | list of object | required | First line.<br>Second line. |",
    "| `rules.host` | string | required | |",
]


def test_tables_show_every_member(tmp_path: Path) -> None:
    """Objects have a row for each member, at any depth, with its type and its default."""
    (tmp_path / "variables.tf").write_text(VARIABLES, encoding="utf-8")
    assert [line for line in readme.tables(tmp_path).splitlines() if line.startswith("| `")] == ROWS


def test_outputs_and_resources_are_listed(tmp_path: Path) -> None:
    """A type is listed once, and a module without inputs has no table of inputs."""
    text = 'resource "b" "x" {\n}\nresource "b" "y" {\n}\ndata "a" "x" {\n}\noutput "o" {\n  description = "D."\n}\n'
    (tmp_path / "main.tf").write_text(text, encoding="utf-8")
    written = readme.tables(tmp_path)
    assert [line for line in written.splitlines() if line.startswith("| `")] == [
        "| `o` | D. |",
        "| `a` | data |",
        "| `b` | resource |",
    ]
    assert "## Inputs" not in written


def test_text_around_the_tables_stays(tmp_path: Path) -> None:
    """A second run changes nothing, and replaces only the written part."""
    page = tmp_path / "README.md"
    page.write_text("# Title\n\nText.\n", encoding="utf-8")
    (tmp_path / "variables.tf").write_text(VARIABLES, encoding="utf-8")
    page.write_text(readme.readme(tmp_path) + "\nMore.\n", encoding="utf-8")
    assert readme.readme(tmp_path) == page.read_text(encoding="utf-8")
    (tmp_path / "variables.tf").unlink()
    assert readme.readme(tmp_path).startswith("# Title\n\nText.\n")
    assert readme.readme(tmp_path).endswith("\nMore.\n")
    assert "size" not in readme.readme(tmp_path)


@pytest.mark.parametrize("folder", readme.modules(), ids=lambda folder: folder.name)
def test_tables_are_current(folder: Path) -> None:
    """The README equals the files. Its inputs and outputs have a description."""
    assert readme.readme(folder) == (folder / "README.md").read_text(encoding="utf-8"), "run python3 infra/readme.py"
    for block in readme.blocks(folder):
        if block.words[0] in {"variable", "output"}:
            assert block.description, block.words


def test_an_outdated_table_is_reported(tmp_path: Path) -> None:
    """``--check`` fails and names the README; without it the script writes the table."""
    copy = tmp_path / "infra"
    (copy / "terraform").mkdir(parents=True)
    (copy / "readme.py").write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
    (copy / "terraform/README.md").write_text("# Title\n", encoding="utf-8")
    (copy / "terraform/variables.tf").write_text(VARIABLES, encoding="utf-8")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, copy / "readme.py", *arguments], capture_output=True, text=True, check=False
        )

    outdated = run("--check")
    assert (outdated.returncode, "terraform/README.md is outdated" in outdated.stdout) == (1, True)
    assert run().returncode == 0
    assert run("--check").returncode == 0
