"""The pages of the Cloud Build server for people: the latest builds, a build with its log, the log as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from werkzeug.wrappers import Request, Response

from emulator.cloud_build.builds import Build
from emulator.cloud_build.service import Service
from emulator.cloud_build.state import CloudBuildState
from emulator.cloud_build.views import COLORS, build_view, choose, list_address, row
from emulator.serving.pages import SHOWN, builds_script, log_answer, page_answer

__all__ = ["Pages"]

_FOLDER = Path(__file__).parent / "templates"


class Pages:
    """Answers requests for pages."""

    def __init__(self, service: Service, state: CloudBuildState) -> None:
        self._service = service
        self._around = state.around

    def answer(self, request: Request, name: str, build_id: str) -> Response:
        """Return a page: ``builds``, ``build``, ``log`` or ``script``; ``build_id`` comes from the address."""
        if name == "script":
            return builds_script()
        if name == "builds":
            return self._builds(request)
        build = self._service.store.get(build_id)
        if build is None:
            return self._html("missing.html", 404, build_id=build_id)
        return self._log(request, build) if name == "log" else self._build(build)

    def _builds(self, request: Request) -> Response:
        chosen = choose(self._service.store.newest_first(), request.args.to_dict())
        now = self._service.clock.now()
        return self._html(
            "builds.html",
            rows=[row(build, now, self._around) for build in chosen.builds],
            chosen=chosen,
            statuses=COLORS,
            list_address=list_address,
        )

    def _build(self, build: Build) -> Response:
        view = build_view(build, self._service.clock.now(), self._around)
        output = self._service.outputs.get(build.id)
        excerpt = output.read(most=SHOWN) if output else None
        return self._html(
            "build.html",
            view=view,
            row=view.row,
            is_over=build.ended,
            text=excerpt.text if excerpt else "",
            next=excerpt.next if excerpt else None,
            nothing="" if output else self._why_no_log(build),
            list_address=list_address,
        )

    def _why_no_log(self, build: Build) -> str:
        if self._service.outputs.was_removed(build.id):
            return "The log of this build was removed, because the logs of newer builds needed its place."
        if self._service.life_cycle.runs_steps(build.id):
            return f"The steps have not started. At most {self._service.parallel} builds run at once."
        return (
            "The steps did not run: the local cloud started and ended the build by itself. "
            "To run the steps of builds on this machine, start the local cloud with --run-steps. "
            "To run a command in their place, start it with --build COMMAND."
        )

    def _log(self, request: Request, build: Build) -> Response:
        """Return the log as text, from the position ``from`` on; see `log_answer`."""
        output = self._service.outputs.get(build.id)
        # The build was read before its log, so that nothing follows the log of a build that has ended.
        excerpt = output.read(request.args.get("from", 0, int)) if output else None
        text = excerpt.text if excerpt else f"{self._why_no_log(build)}\n"
        return log_answer(text, excerpt.next if excerpt else None, is_over=build.ended)

    def _html(self, template: str, status: int = 200, **values: Any) -> Response:
        around = {"server": "Cloud Build", "console_url": self._around.console_url}
        return page_answer(_FOLDER, template, status, **around, **values)
