"""The demo as a user runs it."""

import subprocess
import sys

import pytest


@pytest.mark.emulators
def test_demo_shows_a_build_to_its_end() -> None:
    """A real commit becomes a build, which is checked and succeeds. The exit status shows the success."""
    ran = subprocess.run(
        [sys.executable, "-m", "emulator", "demo"], capture_output=True, text=True, timeout=110, check=False
    )
    assert ran.returncode == 0, ran.stderr
    for text in ("New invocation is queued", "Handling timer", "with status SUCCEEDED", "Buildbucket says SUCCESS"):
        assert text in ran.stdout
