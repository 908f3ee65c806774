"""The cache of built kernels: only whole libraries of this user are loaded, and builds do not collide."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest

from yoso.build import cache, jit


@pytest.fixture
def builds(monkeypatch, tmp_path):
    """A cache in ``tmp_path/cache`` and a compiler that writes ``built``; the folders that it was called with."""
    from torch.utils import cpp_extension

    folders = []

    def load(name, sources, build_directory, **options):
        folders.append(build_directory)
        Path(build_directory, f"{name}.so").write_text("built")

    monkeypatch.setattr(cpp_extension, "load", load)
    monkeypatch.setenv("YOSO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    cache.private_dir.cache_clear()
    yield folders
    cache.private_dir.cache_clear()


@pytest.mark.parametrize(
    "damage",
    [
        lambda library: library.write_bytes(b""),
        lambda library: library.write_text("buil"),
        lambda library: library.write_text("other"),
        lambda library: library.unlink(),
        lambda library: library.chmod(0o777),
        lambda library: cache._seal_of(library).unlink(),
        lambda library: cache._seal_of(library).write_bytes(b"\xff"),
    ],
    ids=["empty", "cut off", "changed", "missing", "writable by others", "no checksum", "damaged checksum"],
)
def test_a_library_that_is_not_whole_is_built_again(builds, damage):
    library = jit.library()
    assert jit.library() == library
    assert len(builds) == 1
    damage(library)
    assert jit.library() == library
    assert library.read_text() == "built"
    assert library.stat().st_mode & 0o777 == 0o755
    assert len(builds) == 2
    assert sorted(path.name for path in library.parent.iterdir()) == [".lock", library.name, f"{library.name}.sha256"]


def test_two_builds_at_once_compile_once(builds, monkeypatch):
    from torch.utils import cpp_extension

    load = cpp_extension.load

    def slowly(*arguments, **options):
        time.sleep(0.2)
        load(*arguments, **options)

    monkeypatch.setattr(cpp_extension, "load", slowly)
    threads = [threading.Thread(target=jit.library) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1


def test_a_lock_of_a_process_that_was_killed_holds_nobody_up(tmp_path):
    code = "import sys, time; from yoso.build.cache import locked\nfrom pathlib import Path\n"
    code += "with locked(Path(sys.argv[1])): print('locked', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        process.kill()
        with cache.locked(tmp_path):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's folder")
@pytest.mark.parametrize("inner", [False, True], ids=["the cache", "the folder of a library"])
def test_a_folder_of_another_user_is_not_used(builds, tmp_path, inner):
    unsafe = jit.library().parent if inner else tmp_path / "cache"
    unsafe.mkdir(exist_ok=True)
    os.chown(unsafe, 12345, -1)
    with pytest.warns(RuntimeWarning, match=f"because {unsafe} belongs to user 12345: set YOSO_CACHE"):
        assert jit.library().is_relative_to(tmp_path / "yoso-0")


@pytest.mark.parametrize("mode", [0o775, 0o777, 0o1777])
def test_a_folder_that_others_can_write_to_is_not_used(builds, tmp_path, mode):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    with pytest.warns(RuntimeWarning, match=r"cache can be written by others: run chmod go-w .*, or set YOSO_CACHE"):
        library = jit.library()
    private = tmp_path / f"yoso-{os.geteuid()}"
    assert library.is_relative_to(private)
    assert private.stat().st_mode & 0o777 == 0o700


def test_a_private_folder_that_somebody_else_made_is_not_used(builds, tmp_path):
    (tmp_path / f"yoso-{os.geteuid()}").symlink_to(tmp_path / "theirs")
    (tmp_path / "theirs").mkdir()
    private = cache.private_dir()
    assert private.resolve() != tmp_path / "theirs"
    assert private.stat().st_mode & 0o777 == 0o700


def test_a_cache_that_cannot_be_made_is_replaced(builds, tmp_path):
    (tmp_path / "cache").touch()
    with pytest.warns(RuntimeWarning, match="cache cannot be made: File exists"):
        assert jit.library().read_text() == "built"


def test_an_unknown_user_without_a_home_has_a_cache(builds, monkeypatch, tmp_path):
    for name in ("YOSO_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert jit.library().is_relative_to(tmp_path / f"yoso-{os.geteuid()}")


def test_what_others_can_write_to_is_made_for_this_user_alone_whatever_the_umask(builds, tmp_path):
    before = os.umask(0)
    try:
        library = jit.library()
    finally:
        os.umask(before)
    assert not any(cache.why_unsafe(path) for path in (tmp_path / "cache", library.parent, library))


KILLED = """
import subprocess, sys, tempfile
from pathlib import Path
from yoso.build.watchdog import watched
folder = Path(sys.argv[1]) / "build-x"
folder.mkdir()
with watched(folder):
    # As ninja does: the compiler has a process group of its own, and its parent is not the process that builds.
    code = "import os, subprocess; subprocess.Popen(['sleep', '60'], process_group=0); print('started', flush=True)"
    subprocess.run([sys.executable, "-c", code], cwd=folder)
    sys.stdin.read()
    raise SystemExit(sys.argv[2])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in Linux's /proc")
@pytest.mark.parametrize("end", ["killed", "an exception"])
def test_compilers_end_with_the_process_that_builds(tmp_path, end):
    command = [sys.executable, "-c", KILLED, tmp_path, end]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"started\n"
        if end == "killed":
            process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (tmp_path / "build-x").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not (tmp_path / "build-x").exists()
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            assert not os.readlink(link).startswith(str(tmp_path))
        except OSError:
            continue
