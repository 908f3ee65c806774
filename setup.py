"""What pyproject.toml cannot say: where the suites go in a wheel, and the kernels that a wheel of one platform brings.

The folder ``suites`` is installed as ``harness.suites``, because a package named ``suites`` beside all others in
site-packages could be another project's. With ``YOSO_PREBUILD=1`` the wheel contains the CPU kernels, built for the
torch of the building environment (``make wheel``), and fits one platform and every Python 3.
"""

import os
import sys
from pathlib import Path
from typing import Any

from setuptools import Distribution, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PREBUILD = os.environ.get("YOSO_PREBUILD") == "1"


class _PlatformDistribution(Distribution):
    """A distribution that installs into the folder for one platform's packages, since it contains a library."""

    def has_ext_modules(self) -> bool:
        return True


class _WithKernels(build_py):
    """Builds the kernels into the wheel. An editable install has none: it compiles what its sources say."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            sys.path.insert(0, str(ROOT))  # the sources that are built, and not an installed copy
            from yoso.build import jit, prebuilt

            folder = Path(self.build_lib) / "yoso" / prebuilt.FOLDER.name
            prebuilt.write(jit.library("cpu"), jit.source_digest("cpu"), folder)


class _AnyPython(bdist_wheel):
    """The library uses no Python function, so that one wheel serves all versions of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


platform: dict[str, Any] = {
    "distclass": _PlatformDistribution,
    "cmdclass": {"build_py": _WithKernels, "bdist_wheel": _AnyPython},
}
setup(
    packages=[*find_packages(str(ROOT), include=["harness*", "yoso*"]), "harness.suites"],
    package_dir={"harness.suites": "suites"},
    **(platform if PREBUILD else {}),
)
