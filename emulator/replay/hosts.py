"""Commit hosts and the servers that ``url_fetch`` jobs reach, in a replay: they give the scenario's answers."""

from __future__ import annotations

import io
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl, urlsplit

import requests
from urllib3 import HTTPResponse

from emulator.clock import SteppedClock
from emulator.memory.gitiles import AnyCommit
from emulator.replay.answers import GitilesAnswer, RestAnswer
from emulator.replay.deliveries import Delivery
from emulator.replay.errors import ScenarioError
from emulator.replay.timed import Stopwatch
from luci_scheduler.adapters.github import GitHubClient
from luci_scheduler.adapters.github_api import GitHubApi, NoCredentials
from luci_scheduler.core.commit_hosts import DEFAULT_HOSTS
from luci_scheduler.core.repo_url import RepoUrl
from luci_scheduler.ports import Fetched, FetchError, GitilesError, LogPage

__all__ = ["ScriptedFetch", "ScriptedGitiles"]

Answer = TypeVar("Answer")


class _Script(Generic[Answer]):
    """The answers to the calls of the current delivery, in order."""

    def __init__(self, name: str, on_fault: Callable[[ScenarioError], None]) -> None:
        self._name = name
        self._on_fault = on_fault
        self._left: deque[Answer] = deque()

    def begin(self, answers: Iterator[Answer]) -> None:
        self._left = deque(answers)

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """Serve another delivery inside, and then continue the current one."""
        before = self._left
        try:
            yield
        finally:
            self._left = before

    def take(self, call: str) -> Answer:
        """Return the next answer.

        Raises:
            ScenarioError: there is none. It is also reported, because a handler answers 500 to every exception.
        """
        if not self._left:
            raise self.fault(f"the scenario has no answer to {call}")
        return self._left.popleft()

    def next_is(self, kind: type) -> bool:
        """Whether the next answer is of a kind."""
        return bool(self._left) and isinstance(self._left[0], kind)

    def fault(self, text: str) -> ScenarioError:
        """Report a fault of the scenario and return its error."""
        error = ScenarioError(f".{self._name}: {text}")
        self._on_fault(error)
        return error

    def require_used(self) -> None:
        """Check that the delivery has used all its answers.

        Raises:
            ScenarioError: some are left.
        """
        if self._left:
            raise ScenarioError(f".{self._name}: {len(self._left)} of them were not used")


class ScriptedGitiles:
    """``ports.Gitiles`` with the answers of a delivery; without such a list, the host knows every commit.

    If the next answer is one of GitHub's REST API, the real client of GitHub takes it.
    """

    def __init__(self, stopwatch: Stopwatch, on_fault: Callable[[ScenarioError], None], clock: SteppedClock) -> None:
        session: Any = self
        self._github = GitHubClient(GitHubApi(DEFAULT_HOSTS, lambda: session, NoCredentials(), clock))
        self._stopwatch = stopwatch
        self._any = AnyCommit()
        self._is_scripted = False
        self.script: _Script[GitilesAnswer] = _Script("gitiles", on_fault)

    def begin(self, delivery: Delivery) -> None:
        """Set the answers for a delivery."""
        self._is_scripted = delivery.gitiles is not None
        self.script.begin(iter(delivery.gitiles or ()))

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """Serve another delivery inside, and then continue the current one."""
        before = self._is_scripted
        try:
            with self.script.interrupted():
                yield
        finally:
            self._is_scripted = before

    def refs(self, repo: RepoUrl, prefix: str) -> Mapping[str, str]:
        """Return the refs below a folder."""
        if not self._is_scripted:
            return self._any.refs(repo, prefix)
        if self.script.next_is(RestAnswer):
            return self._github.refs(repo, prefix)
        answer = self._answer(f"a listing of {prefix} in {repo}")
        if isinstance(answer, Mapping):
            return answer
        raise self.script.fault(f"the answer to a listing of {prefix} is a log")

    def log(
        self, repo: RepoUrl, revision: str, *, limit: int, exclude: str = "", start: str = "", diffs: bool = False
    ) -> LogPage:
        """Return a page of a log."""
        if not self._is_scripted:
            return self._any.log(repo, revision, limit=limit, exclude=exclude, start=start, diffs=diffs)
        if self.script.next_is(RestAnswer):
            return self._github.log(repo, revision, limit=limit, exclude=exclude, start=start, diffs=diffs)
        answer = self._answer(f"a log of {revision} in {repo}")
        if not isinstance(answer, LogPage):
            raise self.script.fault(f"the answer to a log of {revision} is a listing of refs")
        return answer

    def request(self, method: str, url: str, **_: Any) -> requests.Response:
        """Answer a request of the client of GitHub."""
        parts = urlsplit(url)
        answer = self._answer(f"{method} {url}")
        if not isinstance(answer, RestAnswer) or _parts(answer.request) != _parts(
            f"{method} {parts.path}?{parts.query}"
        ):
            raise self.script.fault(f"the next answer is not to {method} {url}")
        return _response(answer)

    def resolve(self, repo: RepoUrl, expression: str) -> str:
        """Report a fault: only requests of the API resolve expressions, and a scenario has none of these.

        Raises:
            ScenarioError: always.
        """
        raise self.script.fault(f"a scenario resolves no expressions, such as {expression!r} in {repo}")

    def _answer(self, call: str) -> Mapping[str, str] | LogPage | RestAnswer:
        with self._stopwatch.operation("gitiles"):
            answer = self.script.take(call)
            if isinstance(answer, GitilesError):
                raise answer
            return answer


def _parts(request: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the parts of a request; the order of its parameters has no meaning."""
    head, _, query = request.partition("?")
    return head, sorted(parse_qsl(query))


def _response(answer: RestAnswer) -> requests.Response:
    response = requests.Response()
    response.status_code = answer.status
    response.headers.update(answer.headers)
    content = b"" if answer.body is None else json.dumps(answer.body).encode()
    response.raw = HTTPResponse(io.BytesIO(content), preload_content=False)
    return response


class ScriptedFetch:
    """``ports.Fetch`` with the answers of a delivery."""

    def __init__(self, stopwatch: Stopwatch, on_fault: Callable[[ScenarioError], None]) -> None:
        self._stopwatch = stopwatch
        self.script: _Script[Fetched | FetchError] = _Script("fetch", on_fault)

    def begin(self, delivery: Delivery) -> None:
        """Set the answers for a delivery."""
        self.script.begin(iter(delivery.fetch))

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """Serve another delivery inside, and then continue the current one."""
        with self.script.interrupted():
            yield

    def get(self, url: str, timeout: int, max_bytes: int) -> Fetched:  # noqa: ARG002 - part of the protocol
        """Return the answer to a fetch."""
        with self._stopwatch.operation("fetch"):
            answer = self.script.take(f"a fetch of {url}")
            if isinstance(answer, FetchError):
                raise answer
            return answer
