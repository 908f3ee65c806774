"""The folder that built libraries are kept in: which one is safe to use, and which of its libraries are whole.

A library is code that runs as the user. So it is loaded only from a folder that nobody else can write to, and only if
its size and checksum are those that were noted when it was built: a file that a full disk or a crash has cut off would
end the process with SIGBUS.
"""

import atexit
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_OTHERS_CAN_WRITE = stat.S_IWGRP | stat.S_IWOTH


def cache_dir() -> Path:
    """The cache: ``YOSO_CACHE``, else ``$XDG_CACHE_HOME/yoso``, else ``~/.cache/yoso``.

    A folder of this user in the system's temporary folder takes its place where there is no home, or where the cache
    cannot be made or others can write to it; then a warning says why.
    """
    chosen, base = os.environ.get("YOSO_CACHE"), os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(chosen) if chosen else (Path(base) if base else Path.home() / ".cache") / "yoso"
    except RuntimeError:  # no HOME, and the user has no entry in the system's list, as in a container
        return private_dir()
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        reason = why_unsafe(folder)
    except OSError as error:
        reason = f"cannot be made: {error.strerror}"
    return private_dir_instead(folder, reason) if reason else folder


def why_unsafe(path: Path) -> str:
    """Why a file or folder may be another user's work, with what to do; an empty string if it is not."""
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to user {status.st_uid}: set YOSO_CACHE to a folder of your own"
    if status.st_mode & _OTHERS_CAN_WRITE:
        return f"can be written by others: run chmod go-w {path}, or set YOSO_CACHE to a folder of your own"
    return ""


def private_dir_instead(folder: Path, reason: str) -> Path:
    """``private_dir``, with a warning that ``folder`` is not used, and why."""
    private = private_dir()
    warnings.warn(f"{private} is the cache of YOSO's kernels, because {folder} {reason}", RuntimeWarning, stacklevel=2)
    return private


@cache
def private_dir() -> Path:
    """A folder of this user alone in the temporary folder; one of this process, if somebody else has made that."""
    folder = Path(tempfile.gettempdir()) / f"yoso-{os.geteuid()}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            return folder
    own = tempfile.mkdtemp(prefix="yoso-")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return Path(own)


def is_whole(library: Path) -> bool:
    """Whether a library is there, safe to load, and as it was when ``seal`` noted its size and checksum."""
    try:
        if why_unsafe(library.parent) or why_unsafe(library):
            return False
        return _seal_of(library).read_text() == _description(library)
    except (OSError, UnicodeDecodeError):
        return False


def put(built: Path, library: Path) -> None:
    """Move a library that was just built to its place, and note its size and checksum, each at once."""
    built.chmod(0o755)
    note = built.with_name(f"{built.name}.note")
    note.write_text(_description(built))
    for file in (built, note):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    note.replace(_seal_of(library))
    built.replace(library)


def _seal_of(library: Path) -> Path:
    return library.with_name(f"{library.name}.sha256")


def _description(library: Path) -> str:
    with library.open("rb") as file:
        return f"{os.fstat(file.fileno()).st_size} bytes, sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}\n"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process builds in this folder; the system releases the lock of a process that ends."""
    with (folder / ".lock").open("ab") as file:
        with suppress(OSError):  # a file system without locks: two processes then build the same library
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
