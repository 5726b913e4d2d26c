"""The pages of the Buildbucket server for people: the latest builds, a build with its output, the output as text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from werkzeug.wrappers import Request, Response

from emulator.buildbucket.builds import Build
from emulator.buildbucket.service import Service
from emulator.buildbucket.state import BuildbucketState
from emulator.buildbucket.views import COLORS, build_view, choose, commit_of, list_address, row
from emulator.serving.pages import SHOWN, builds_script, log_answer, page_answer

__all__ = ["Pages"]

_FOLDER = Path(__file__).parent / "templates"
_LARGEST_ID = 1 << 63


class Pages:
    """Answers requests for pages."""

    def __init__(self, service: Service, state: BuildbucketState) -> None:
        self._service = service
        self._around = state.around

    def answer(self, request: Request, name: str, build_id: str) -> Response:
        """Return a page: ``builds``, ``build``, ``log`` or ``script``; ``build_id`` comes from the address."""
        if name == "script":
            return builds_script()
        if name == "builds":
            return self._builds(request)
        build = self._find(build_id)
        if build is None:
            return self._html("missing.html", 404, build_id=build_id)
        return self._log(request, build) if name == "log" else self._build(build)

    def _find(self, build_id: str) -> Build | None:
        is_number = build_id.isascii() and build_id.isdecimal() and len(build_id) < len(str(_LARGEST_ID)) + 1
        return self._service.store.get(int(build_id)) if is_number else None

    def _builds(self, request: Request) -> Response:
        chosen = choose(self._service.store.newest_first(), request.args.to_dict())
        now, subjects = self._service.clock.now(), self._subjects(chosen.builds)
        return self._html(
            "builds.html",
            rows=[row(build, now, self._around, subjects) for build in chosen.builds],
            chosen=chosen,
            statuses=COLORS,
            list_address=list_address,
        )

    def _build(self, build: Build) -> Response:
        view = build_view(build, self._service.clock.now(), self._around, self._subjects([build]))
        output = self._service.outputs.get(build.id)
        excerpt = output.read(most=SHOWN) if output else None
        return self._html(
            "build.html",
            view=view,
            row=view.row,
            is_over=build.ended,
            text=excerpt.text if excerpt else "",
            next=excerpt.next if excerpt else None,
            nothing="" if output else self._why_no_output(build),
            list_address=list_address,
        )

    def _why_no_output(self, build: Build) -> str:
        if self._service.outputs.was_removed(build.id):
            return "The output of this build was removed, because the outputs of newer builds needed its place."
        if self._service.life_cycle.runs_command(build.id):
            return f"The command has not started. At most {self._service.parallel} commands run at once."
        return (
            "No command belongs to this builder, so nothing ran: the local cloud started and ended the build by "
            "itself. To run a command, start the local cloud with --build COMMAND, or write a file builders.toml."
        )

    def _log(self, request: Request, build: Build) -> Response:
        """Return the output as text, from the position ``from`` on; see `log_answer`."""
        output = self._service.outputs.get(build.id)
        # The build is read before its output, so that nothing follows the output of a build that has ended.
        excerpt = output.read(request.args.get("from", 0, int)) if output else None
        text = excerpt.text if excerpt else f"{self._why_no_output(build)}\n"
        return log_answer(text, excerpt.next if excerpt else None, is_over=build.ended)

    def _subjects(self, builds: Iterable[Build]) -> Any:
        return self._around.subjects({key for build in builds if (key := commit_of(build)) is not None})

    def _html(self, template: str, status: int = 200, **values: Any) -> Response:
        around = {"server": "Buildbucket", "console_url": self._around.console_url}
        return page_answer(_FOLDER, template, status, **around, **values)
