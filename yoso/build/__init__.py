"""The build of YOSO's native kernels: they are compiled on first use, cached and loaded."""

from yoso.build.jit import SOURCES, cache_dir, describe, library, load, status
from yoso.build.toolchain import BuildError

__all__ = ["SOURCES", "BuildError", "cache_dir", "describe", "library", "load", "status"]
