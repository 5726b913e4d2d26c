"""Sends changes to a Buildbot master; run by the interpreter of Buildbot's environment.

Its first line says that it is connected. Each line of standard input is a list of changes. All changes of a line are
sent at once over one connection. Changes without an answer are sent again over a new connection. The answer is a line:
the number of changes that got an answer before the first connection broke.
"""

from __future__ import annotations

import json
import sys

from twisted.cred import credentials
from twisted.internet import defer, reactor, task, threads
from twisted.spread import pb

_PAUSE = 0.1


class Sender:
    """A connection to the master, made again when it breaks."""

    def __init__(self, port):
        self._port = port
        self._perspective = None

    async def send(self, changes):
        waiting, first = list(changes), None
        while waiting:
            try:
                answers = await self._send_once(waiting)
            except Exception:  # noqa: BLE001 - the master is down
                self._perspective = None
                await task.deferLater(reactor, _PAUSE)
                continue
            first = sum(fine for fine, _ in answers) if first is None else first
            waiting = [change for change, (fine, _) in zip(waiting, answers, strict=True) if not fine]
            if waiting:
                self._perspective = None
        return first

    async def connect(self):
        factory = pb.PBClientFactory()
        reactor.connectTCP("127.0.0.1", self._port, factory)
        self._perspective = await factory.login(credentials.UsernamePassword(b"change", b"changepw"))

    async def _send_once(self, changes):
        if self._perspective is None:
            await self.connect()
        calls = [self._perspective.callRemote("addChange", change) for change in changes]
        return await defer.DeferredList(calls, consumeErrors=True)


async def main():
    sender = Sender(int(sys.argv[1]))
    await sender.connect()
    print("connected", flush=True)
    while line := await threads.deferToThread(sys.stdin.readline):
        print(await sender.send(json.loads(line)), flush=True)


if __name__ == "__main__":
    task.react(lambda _: defer.ensureDeferred(main()))
