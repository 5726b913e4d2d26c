"""The TCP ports that this process and its children listen on, and the answers of HTTP servers there."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

_LISTEN = "0A"
_SECONDS = 60.0  # a busy machine takes seconds to answer


def listening_ports(but: str = "") -> set[int]:
    """Return the ports that this process and all processes below it listen on; an empty set except on Linux.

    Args:
        but: the name of a program whose processes are left out.
    """
    pids = [pid for pid in _family(os.getpid()) if _program(pid) != but]
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    return {
        port for table in ("tcp", "tcp6") for port, inode in _listeners(Path("/proc/net") / table) if inode in inodes
    }


def http_status(port: int, headers: str, request_line: str = "GET / HTTP/1.1") -> int | None:
    """Return the status of a server's answer to a request with these header lines; None if it does not speak HTTP/1."""
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as connection:
        connection.sendall(f"{request_line}\r\n{headers}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        try:
            answer = connection.recv(100)
        except ConnectionResetError:
            return None
    return int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.") else None


def _family(root: int) -> set[int]:
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    family = {root}
    while found := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= found
    return family


def _program(pid: int) -> str:
    file = Path(f"/proc/{pid}/comm")
    return file.read_text().strip() if file.exists() else ""


def _sockets(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = str(link.readlink())
        except OSError:  # it was closed
            continue
        if target.startswith("socket:["):
            yield target[len("socket:[") : -1]


def _listeners(table: Path) -> Iterator[tuple[int, str]]:
    for line in table.read_text().splitlines()[1:] if table.exists() else ():
        words = line.split()
        if words[3] == _LISTEN:
            yield int(words[1].rpartition(":")[2], 16), words[9]
