"""Completion in shells: scripts of words and options, and the names of projects and jobs of a console."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping

from luci_scheduler.cli.errors import CommandError, Exit
from luci_scheduler.cli.names import cached_names
from luci_scheduler.cli.session import Session
from luci_scheduler.cli.tree import children, leaves, options_of

__all__ = ["LIMIT", "SHELLS", "complete_names", "completion"]

SHELLS = ("bash", "zsh", "fish")

LIMIT = 1.0
"""Seconds until the names of a console are given up: a person waits for the shell."""

_NAMED = ("job", "invocation", "target", "project")
"""Arguments for which a shell completes names."""

_SAFE = re.compile(r"[0-9A-Za-z_\-. ()/]+")
"""The characters of projects and jobs. Bash runs commands in the words that it completes: a ``$(...)`` for example."""


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return a script that completes words, options, and the names of projects and jobs."""
    if shell == "fish":
        return _fish(parser)
    words, named = _words(parser), [" ".join(path) for path, leaf in leaves(parser) if _takes_names(leaf)]
    cases = "\n".join(f'    "{path}") words="{" ".join(items)}" ;;' for path, items in words.items())
    head = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    script = _BASH.replace("@CASES@", cases).replace("@NAMED@", "|".join(f'"{path}"' for path in named))
    return head + script


def complete_names(
    make: Callable[[], Session], token: str, word: str, leave: Callable[[], object] | None = None
) -> int:
    """Write the names of projects, or of the jobs of the project in ``word``; write nothing if anything fails.

    A text that is no such name, which only a hostile console returns, is left out.

    Args:
        make: makes the session.
        token: the caller's token, or empty.
        word: the beginning of the name: ``proj`` or ``proj/jo``.
        leave: ends the process after `LIMIT`; None ends it at once, without output.
    """
    timer = threading.Timer(LIMIT, leave or (lambda: os._exit(Exit.DONE)))
    timer.daemon = True
    timer.start()
    with contextlib.suppress(CommandError, OSError):
        session = make()
        project, slash, _ = word.partition("/")
        names = cached_names(session, project if slash else "", token)
        lines = [f"{project}/{name}" for name in names] if slash else [f"{name}/" for name in names]
        sys.stdout.write("".join(f"{line}\n" for line in lines if line.startswith(word) and _SAFE.fullmatch(line)))
    timer.cancel()
    return Exit.DONE


def _takes_names(leaf: argparse.ArgumentParser) -> bool:
    return any(action.dest in _NAMED for action in leaf._actions if not action.option_strings)  # noqa: SLF001


def _words(parser: argparse.ArgumentParser) -> Mapping[str, list[str]]:
    """Return the words that can follow each path of words: the next words, or the options of a verb."""
    words: dict[str, list[str]] = {}
    _collect(parser, "", words)
    for path, leaf in leaves(parser):
        words[" ".join(path)] = sorted(name for action in options_of(leaf) for name in action.option_strings)
    return words


def _collect(parser: argparse.ArgumentParser, path: str, words: dict[str, list[str]]) -> None:
    for word, child in children(parser).items():
        words.setdefault(path, []).append(word)
        _collect(child, f"{path} {word}".strip(), words)


def _fish(parser: argparse.ArgumentParser) -> str:
    words: dict[str, list[str]] = {}
    _collect(parser, "", words)
    lines = [
        f"complete -c luci-scheduler -n '__luci_scheduler_at \"{path}\"' -a '{' '.join(items)}'"
        for path, items in words.items()
    ]
    for path, leaf in leaves(parser):
        place = f"complete -c luci-scheduler -n '__luci_scheduler_in {' '.join(path)}'"
        for action in options_of(leaf):
            value = "" if action.nargs == 0 else " -r"
            names = [f"-l {name[2:]}" for name in action.option_strings if name.startswith("--")]
            lines.append(f"{place} {names[0]}{value}")
        if _takes_names(leaf):
            lines.append(f"{place} -a '(luci-scheduler complete-names (commandline -ct) 2>/dev/null)'")
    return _FISH + "\n".join(lines) + "\n"


_BASH = """\
_luci_scheduler() {
  local words="" path="" word named="" current="${COMP_WORDS[COMP_CWORD]}"
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) continue ;; esac
    [ "$(set -- $path; echo $#)" -lt 2 ] && path="${path:+$path }$word"
  done
  case "$path" in
@CASES@
    *) path="${path%% *}"; case "$path" in
@CASES@
    esac ;;
  esac
  case "$path" in @NAMED@) named=1 ;; esac
  if [ -n "$named" ] && [ "${current#-}" = "$current" ]; then
    words="$(luci-scheduler complete-names "$current" 2>/dev/null)"
    case "$words" in */) compopt -o nospace 2>/dev/null ;; esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _luci_scheduler luci-scheduler
"""

_FISH = """\
function __luci_scheduler_words
    set -l words (commandline -opc)
    set -e words[1]
    string match -v -- '-*' $words
end
function __luci_scheduler_at
    set -l words (__luci_scheduler_words)
    test "$words" = "$argv[1]"
end
function __luci_scheduler_in
    set -l words (__luci_scheduler_words)
    set -l count (count $argv)
    test (count $words) -ge $count; and test "$words[1..$count]" = "$argv"
end
complete -c luci-scheduler -f
"""
