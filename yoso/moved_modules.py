"""Imports by old module names: a few keep working, and the others say where the module is now.

For example, ``import harness.measuring.verify`` raises ``ModuleNotFoundError: harness.measuring.verify is now
harness.measure.verify``. Names that the documentation used before the move are aliases: importing one gives the same
module object as the new name. ``harness.old_module_names`` has the names of the harness.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType

ALIASES = {"yoso.modeling": "yoso.models.encoder"}
"""Old names of yoso's modules that can still be imported."""
MOVED = {
    "yoso.autocast": "yoso.ops.autocast",
    "yoso.checks": "yoso.ops.arguments",
    "yoso.config": "yoso.models.config",
    "yoso.conv": "yoso.models.convolution",
    "yoso.gradients": "yoso.ops.autograd",
    "yoso.hashing": "yoso.ops.hashing",
    "yoso.heads": "yoso.models.heads",
    "yoso.layers": "yoso.models.layers",
    "yoso.masked_lm": "yoso.models.masked_lm",
    "yoso.portable": "yoso.ops.portable",
    "yoso.reference": "yoso.ops.reference",
    "yoso.toolchain": "yoso.build.toolchain",
    "yoso.transforms": "yoso.ops.vmap",
}
"""Old names of yoso's modules whose import is an error that tells the new name."""


class OldModuleNames:
    """A finder for ``sys.meta_path`` that is asked for the modules that no other finder has.

    It is not a subclass of ``importlib.abc.MetaPathFinder``, because importing ``importlib.abc`` takes several times as
    long as importing this package.

    Args:
        aliases: new names by old names that can still be imported.
        moved: new names by old names whose import is an error.
    """

    def __init__(self, aliases: Mapping[str, str], moved: Mapping[str, str]) -> None:
        self.aliases = aliases
        self.moved = moved

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of an alias, or None for a name that is not an old one.

        Raises:
            ModuleNotFoundError: an old name that is no alias; the message has the new name.
        """
        del path, target
        if fullname in self.aliases:
            return ModuleSpec(fullname, _AliasLoader(self.aliases[fullname]))  # type: ignore[arg-type]
        if fullname in self.moved:
            imported = _imported_name(fullname)
            old = imported if imported in self.moved else fullname
            # Without the argument ``name``: with it, ``from harness import gating`` would hide this message behind
            # "cannot import name 'gating'".
            raise ModuleNotFoundError(f"{old} is now {self.moved[old]}")
        return None


class _AliasLoader:
    """Loads a module under an old name: the module object of the new name, unchanged.

    It is not a subclass of ``importlib.abc.Loader`` for the reason that ``OldModuleNames`` gives.
    """

    def __init__(self, new_name: str) -> None:
        self._new_name = new_name

    def create_module(self, spec: ModuleSpec) -> None:
        """Let importlib make an empty module, which ``exec_module`` replaces.

        If this returned the real module, importlib would overwrite its ``__spec__``.
        """
        del spec

    def exec_module(self, module: ModuleType) -> None:
        """Put the real module into ``sys.modules``; importlib takes the result of an import from there."""
        sys.modules[module.__name__] = import_module(self._new_name)

    def get_code(self, fullname: str) -> CodeType | None:
        """The code that ``python -m`` with the old name runs."""
        del fullname
        spec = find_spec(self._new_name)
        assert spec is not None
        return spec.loader.get_code(self._new_name)  # type: ignore[union-attr]


def _imported_name(package: str) -> str:
    """The full name in the import statement that is being executed.

    For ``import harness.measuring.verify``, importlib imports ``harness.measuring`` first, while the function for the
    full name is still on the stack.
    """
    name = package
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            outer = frame.f_locals.get("name")
            if isinstance(outer, str) and outer.startswith(f"{name}."):
                name = outer
    return name


def register(aliases: Mapping[str, str], moved: Mapping[str, str]) -> None:
    """Serve a package's old module names from now on."""
    sys.meta_path.append(OldModuleNames(aliases, moved))


register(ALIASES, MOVED)
