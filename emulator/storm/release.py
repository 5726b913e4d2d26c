"""The functions of another release in this process, beside today's.

The package has the same name in both releases, and modules import each other also while they run. So the modules of the
release get their own ``__import__``, which finds its package's modules in a table of its own. ``sys.modules`` has them
under another name, for the libraries that look a class's module up there.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from emulator.memory import store as memory_store
from luci_scheduler.adapters import documents

__all__ = ["Release"]

_PACKAGE = "luci_scheduler"
_PREFIX = "released."


class Release:
    """The package of a release.

    Args:
        folder: has the package ``luci_scheduler`` and, with them, the release's functions.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._modules: dict[str, ModuleType] = {}
        self._builtins: dict[str, Any] = {**vars(builtins), "__import__": self._import}

    def module(self, name: str) -> Any:
        """Return a module of the release, such as ``luci_scheduler.entry``.

        Raises:
            ModuleNotFoundError: the release has no such module.
        """
        parent, _, last = name.rpartition(".")
        if parent:
            self.module(parent)
        if name not in self._modules:
            self._load(name)
            if parent:
                setattr(self._modules[parent], last, self._modules[name])
        return self._modules[name]

    @cached_property
    def store_class(self) -> Any:
        """The store in memory for the records of the release; a store shares its documents by `share`."""
        return self._made(f"{_PREFIX}store", Path(memory_store.__file__)).__dict__["MemoryStore"]

    def share(self, store: memory_store.MemoryStore) -> Any:
        """Return a store for the release on the documents of another store."""
        shared = self.store_class()
        shared.__dict__.update(vars(store))
        return shared

    def _load(self, name: str) -> None:
        path = self._folder.joinpath(*name.split("."))
        is_package = path.is_dir()
        file = path / "__init__.py" if is_package else path.with_suffix(".py")
        if not file.exists():
            raise ModuleNotFoundError(f"the release has no module {name}", name=name)
        self._made(f"{_PREFIX}{name}", file, name, is_package=is_package)

    def _made(self, name: str, file: Path, key: str = "", *, is_package: bool = False) -> ModuleType:
        """Run a module in the release's namespace."""
        module = ModuleType(name)
        module.__file__ = str(file)
        if is_package:
            module.__path__ = [str(file.parent)]
        module.__dict__["__builtins__"] = self._builtins
        self._modules[key or name] = sys.modules[name] = module
        exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), module.__dict__)  # noqa: S102 - our own code
        return module

    def _import(
        self, name: str, of: Any = None, locals_: Any = None, names: Sequence[str] | None = (), level: int = 0
    ) -> Any:
        if name.partition(".")[0] != _PACKAGE:
            return __import__(name, of, locals_, names or (), level)
        if not names:
            self.module(name)
            return self._modules[_PACKAGE]
        if str((of or {}).get("__name__", "")) == f"{_PREFIX}store":
            return self._with_todays(name)
        module = self.module(name)
        for part in names:
            if not hasattr(module, part):
                self.module(f"{name}.{part}")
        return module

    def _with_todays(self, name: str) -> Any:
        """Return a module of the release for the store, with today's names that the release does not know."""
        todays = vars(__import__(name, fromlist=["_"]))
        try:
            own = vars(self.module(name))
        except ModuleNotFoundError:
            own = {}
        if name == f"{_PACKAGE}.adapters":
            versioned = self.module(f"{_PACKAGE}.ports").Versioned
            own = {"documents": _Documents(self.module(f"{name}.documents"), versioned)}
        return SimpleNamespace(**{**todays, **own})


class _Documents:
    """The release's codec of documents, with the names of today's that the store uses."""

    def __init__(self, own: Any, versioned: Any) -> None:
        self._own = own
        self._versioned = versioned

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name) if hasattr(self._own, name) else getattr(documents, name)

    def as_read(self, record: Any, _document: object, version: object) -> Any:
        """Return a record with its version."""
        return self._versioned(record, SimpleNamespace(at=version))

    def as_written(self, _write: object, _document: object, version: object) -> Any:
        """Return the version of a written document."""
        return SimpleNamespace(at=version)

    def encode_invocation_state(self, invocation: Any, _version: object) -> Any:
        """Encode the state of an invocation."""
        return self._own.encode_invocation_state(invocation)

    def check_invocation_size(
        self, invocation: Any, _document: object, log_bytes: int, _version: object = None
    ) -> None:
        """Check that an invocation fits into the store. The last release encodes it again for that."""
        self._own.check_invocation_size(invocation, log_bytes)
