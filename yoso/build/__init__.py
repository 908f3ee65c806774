"""Builds YOSO's native kernels when they are first used, and loads them."""

from yoso.build.jit import SOURCES, cache_dir, describe, library, load, status
from yoso.build.toolchain import BuildError

__all__ = ["SOURCES", "BuildError", "cache_dir", "describe", "library", "load", "status"]
