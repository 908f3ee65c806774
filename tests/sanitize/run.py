"""``make sanitize``: run the operators' tests on CPU kernels that are built with GCC's sanitizers.

The address and undefined-behaviour sanitizers run once for every instruction set that this processor supports. The
thread sanitizer runs for the widest one, with ``at::parallel_for`` on std::thread (``threads/ATen/Parallel.h``). Torch
itself is not instrumented.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TESTS = [f"tests/operators/test_{name}.py" for name in ("operators", "rescored", "hashing", "stress", "stress_inputs")]
COMMON = ["-O1", "-g", "-fno-omit-frame-pointer"]
ADDRESS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
THREAD = ["-fsanitize=thread", f"-I{HERE / 'threads'}"]
# By instruction set, widest first: the header that makes the dispatcher reject all wider ones.
ISA_HEADERS = {"avx512": None, "avx2": "widest_avx2.h", "baseline": "widest_baseline.h"}
OPTIONS = {
    # Leak detection is off because the interpreter and torch free little of their memory at exit.
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    # Torch is not instrumented, so races reported in its modules are ignored.
    "TSAN_OPTIONS": "halt_on_error=1:ignore_noninstrumented_modules=1",
    # The thread sanitizer cannot follow the synchronisation of OpenMP threads, so none is started.
    "OMP_NUM_THREADS": "1",
}

# Removes LD_PRELOAD so that the compiler itself does not run under the sanitizer.
BUILD = """
import os, warnings
del os.environ["LD_PRELOAD"]
warnings.simplefilter("error")
import yoso.ops
print(yoso.build.describe("cpu"))
"""


def runtime(*libraries: str) -> str:
    """The value of LD_PRELOAD that loads GCC's sanitizer libraries, which the interpreter is not linked with."""
    paths = []
    for library in libraries:
        path = subprocess.check_output(["g++", f"-print-file-name={library}"], text=True).strip()
        if not Path(path).is_absolute():
            raise SystemExit(f"g++ cannot find {library}: install GCC's sanitizer libraries")
        paths.append(path)
    return " ".join(paths)


def run(title: str, flags: list[str], preload: str, expected_isa: str | None) -> str:
    """Build the kernels, check which instruction set the dispatcher chose, and run the tests.

    Args:
        title: names the run in the output.
        flags: compiler flags of the sanitizer.
        preload: the value of LD_PRELOAD, from ``runtime``.
        expected_isa: the instruction set that must be chosen; None accepts any.

    Returns:
        The instruction set that was chosen.

    Raises:
        SystemExit: another instruction set was chosen.
    """
    environment = (
        os.environ | OPTIONS | {"CXX": "g++", "LD_PRELOAD": preload, "YOSO_CXXFLAGS": " ".join(COMMON + flags)}
    )
    description = subprocess.check_output([sys.executable, "-c", BUILD], env=environment, cwd=ROOT, text=True).strip()
    isa = description.rpartition("(")[2].rstrip(")")
    print(f"== {title}: {description}", flush=True)
    if expected_isa not in (None, isa):
        raise SystemExit(f"expected the kernels for {expected_isa}, got {description}")
    # No output capture: a sanitizer ends the process on the first error, and captured output would be lost.
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--capture=no", *TESTS], env=environment, cwd=ROOT, check=True
    )
    return isa


def main() -> None:
    """Run all sanitizers; stop at the first error."""
    address_libraries = runtime("libasan.so", "libubsan.so")
    widest = run("address, undefined", ADDRESS, address_libraries, None)
    names = list(ISA_HEADERS)
    for isa in names[names.index(widest) + 1 :]:
        header = HERE / str(ISA_HEADERS[isa])
        run(f"address, undefined ({isa})", [*ADDRESS, "-include", str(header)], address_libraries, isa)
    run("thread", THREAD, runtime("libtsan.so"), widest)


if __name__ == "__main__":
    main()
