"""The git client of a user, without the machine's settings."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

__all__ = ["GitClient"]

_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Ana Example"), ("EMAIL", "ana@example.com"))
}


class GitClient:
    """A work tree with the branch main, and git commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.run("init", "--quiet", "--initial-branch=main")

    def run(self, *arguments: str, fails: bool = False, **environment: str) -> str:
        """Run git; return its whole output. It must succeed, or fail if ``fails``."""
        # In a CI job, settings such as safe.directory or a proxy come from the environment.
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        settings = {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
        }
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
            env={**kept, **settings, **_IDENTITY, **environment},
        )
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, f"git {' '.join(arguments)}: {output}"
        return output.strip()

    def commit(self, message: str = "A change", content: bytes = b"") -> str:
        """Add a commit and return its hash."""
        (self.folder / "file").write_bytes(content or os.urandom(8))
        self.run("add", "file")
        self.run("commit", "--quiet", f"--message={message}")
        return self.run("rev-parse", "HEAD")
