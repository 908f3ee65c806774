"""The CUDA kernels on the host shim, built with GCC's address and undefined-behaviour sanitizers, under their tests.

Arguments go to pytest; where they name no file, every test that uses the shim is run.
"""

import os
import subprocess
import sys

from run import ROOT, runtime

# The compiler must not inherit the sanitizer: the library is built before the tests load it.
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
    """Build, then test; the first fault ends the run."""
    subprocess.run([sys.executable, "-c", BUILD], cwd=ROOT, check=True)
    if not any(argument.endswith(".py") for argument in arguments):
        tests = sorted((ROOT / "tests" / "cuda").glob("test_cuda_*.py"))
        arguments = [*arguments, *(str(path) for path in tests if "(shim" in path.read_text())]
    environment = os.environ | OPTIONS | {"LD_PRELOAD": runtime("libasan.so", "libubsan.so")}
    # Without capture: a sanitizer ends the process, and what it wrote must not be lost with it.
    command = [sys.executable, "-m", "pytest", "-q", "--capture=no", *arguments]
    sys.exit(subprocess.run(command, env=environment, cwd=ROOT).returncode)


if __name__ == "__main__":
    main(sys.argv[1:])
