"""Run the tests of the CUDA kernels on the host shim, built with GCC's address and undefined-behaviour sanitizers.

Arguments are passed to pytest. If they name no file, all tests that use the shim run.
"""

import os
import subprocess
import sys

from run import ROOT, runtime

# The library is built before the tests run, because the compiler must not inherit LD_PRELOAD.
BUILD = """
import sys
sys.path.insert(0, "tests")
from cuda_shim.shim import library
print(library(sanitized=True))
"""
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "YOSO_SHIM_SANITIZED": "1",
    "OMP_NUM_THREADS": "1",
}


def main(arguments: list[str]) -> None:
    """Build, then run the tests. The first fault ends the process."""
    subprocess.run([sys.executable, "-c", BUILD], cwd=ROOT, check=True)
    if not any(argument.endswith(".py") for argument in arguments):
        tests = sorted((ROOT / "tests" / "cuda").glob("test_cuda_*.py"))
        arguments = [*arguments, *(str(path) for path in tests if "(shim" in path.read_text())]
    environment = os.environ | OPTIONS | {"LD_PRELOAD": runtime("libasan.so", "libubsan.so")}
    # Without capture, because a sanitizer ends the process and its message must not be lost.
    command = [sys.executable, "-m", "pytest", "-q", "--capture=no", *arguments]
    sys.exit(subprocess.run(command, env=environment, cwd=ROOT).returncode)


if __name__ == "__main__":
    main(sys.argv[1:])
