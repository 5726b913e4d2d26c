"""The demo of Cloud Build and GitHub, in memory."""

import re

import pytest

from emulator import cloud_build_demo


@pytest.mark.parametrize(("code", "status"), [("", 0), ("raise SystemExit(3)\n", 1)])
def test_the_demo_is_honest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: str, status: int
) -> None:
    """A push becomes a build that runs the pushed program, and the commit gets statuses. A failure is a failure."""
    monkeypatch.setattr(cloud_build_demo, "_SCRIPT", cloud_build_demo._SCRIPT.replace("0.5", "0") + code)
    assert cloud_build_demo.main("memory") == status
    shown = capsys.readouterr()
    revision = re.search(r"testing revision ([0-9a-f]{40})", shown.out)
    assert revision is not None
    assert f"Push: {revision[1][:12]} to main" in shown.out
    if status:
        assert "Cloud Build says FAILURE, and the commit has the statuses pending, failure" in shown.out
        assert "demo: Cloud Build says FAILURE, expected one SUCCESS" in shown.err
    else:
        assert "Cloud Build says SUCCESS, and the commit has the statuses pending, success" in shown.out
        assert shown.err == ""
