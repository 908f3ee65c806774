"""``make sanitize``: the native kernels built with GCC's sanitizers, under the tests, once an instruction set.

Address and undefined-behaviour sanitizers run every instruction set that this processor has; the thread sanitizer runs
the widest, with ``at::parallel_for`` on std::thread (``threads/ATen/Parallel.h``). Torch itself is not instrumented.
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TESTS = [f"tests/operators/test_{name}.py" for name in ("operators", "hashing", "stress", "stress_inputs")]
COMMON = ["-O1", "-g", "-fno-omit-frame-pointer"]
ADDRESS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
THREAD = ["-fsanitize=thread", f"-I{HERE / 'threads'}"]
# An instruction set and the header that keeps the dispatcher from a wider one.
ISAS = {"avx512": None, "avx2": "widest_avx2.h", "baseline": "widest_baseline.h"}
OPTIONS = {
    # The interpreter and torch free little at exit: leaks are not looked for.
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    # Torch's own code is not instrumented: what it does with memory is not this run's question.
    "TSAN_OPTIONS": "halt_on_error=1:ignore_noninstrumented_modules=1",
    # So that no OpenMP thread is started, which the thread sanitizer could not follow.
    "OMP_NUM_THREADS": "1",
}

# The compiler must not inherit the sanitizer: that is for what it compiles.
BUILD = """
import os, warnings
del os.environ["LD_PRELOAD"]
warnings.simplefilter("error")
import yoso.ops
print(yoso.build.describe("cpu"))
"""


def runtime(*libraries: str) -> str:
    """LD_PRELOAD of GCC's sanitizer libraries: the interpreter is not linked with them."""
    found = []
    for library in libraries:
        path = subprocess.check_output(["g++", f"-print-file-name={library}"], text=True).strip()
        if not Path(path).is_absolute():
            raise SystemExit(f"g++ has no {library}; install GCC's sanitizer libraries")
        found.append(path)
    return " ".join(found)


def run(title: str, flags: list[str], preload: str, expected_isa: str | None) -> str:
    """Build, see which kernels were chosen, run the tests.

    Returns:
        The instruction set that ran.
    """
    environment = (
        os.environ | OPTIONS | {"CXX": "g++", "LD_PRELOAD": preload, "YOSO_CXXFLAGS": " ".join(COMMON + flags)}
    )
    found = subprocess.check_output([sys.executable, "-c", BUILD], env=environment, cwd=ROOT, text=True).strip()
    isa = found.rpartition("(")[2].rstrip(")")
    print(f"== {title}: {found}", flush=True)
    if expected_isa not in (None, isa):
        raise SystemExit(f"expected the kernels for {expected_isa}, got {found}")
    # Without capture: a sanitizer ends the process, and what it wrote must not be lost with it.
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--capture=no", *TESTS], env=environment, cwd=ROOT, check=True
    )
    return isa


def main() -> None:
    """Run all; the first fault ends the run."""
    address = runtime("libasan.so", "libubsan.so")
    widest = run("address, undefined", ADDRESS, address, None)
    names = list(ISAS)
    for isa in names[names.index(widest) + 1 :]:
        header = HERE / str(ISAS[isa])
        run(f"address, undefined ({isa})", [*ADDRESS, "-include", str(header)], address, isa)
    run("thread", THREAD, runtime("libtsan.so"), widest)


if __name__ == "__main__":
    main()
