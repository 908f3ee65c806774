"""The process that measures one of the two commits of ``harness ab``: it holds a prepared case and samples it.

It runs the code of the commit's own checkout, and the client is of the commit that runs ``harness ab``. So these
requests and answers must stay as they are; older commits give the same answers in their module ``harness.side``::

    {"prepare": SPEC, "verified": BOOL, "observed": BOOL, "inputs_seed": INT}
                         -> a Record without a timing; the case is held until the next one. See ``runner.prepare``
    {"sample": EFFORT}   -> a Timing, or {"status": ..., "reasons": [...]} if the case failed
    {"verify": true}     -> {}, or {"status": ..., "reasons": [...]} if a kept result of the timed calls is wrong
    {"machine": DEVICE}  -> {"machine": the machine's fingerprint, "commit": the code's commit, "verifies": true}

A commit whose answer has no ``verifies`` times every call on the same inputs and cannot answer ``verify``.

The processes of both commits hold the same case at the same time, so that their samples are taken a fraction of a
second apart (``harness.gate.commits.turns``) and a disturbance of the machine affects both commits alike.
"""

import ctypes
import gc
import json
import sys
from collections.abc import Callable
from typing import Any

import psutil
from pydantic import TypeAdapter

from harness.core.spec import AnySpec
from harness.processes.protocol import Handler, serve

KEPT_BYTES = 2 * 2**30
"""Most memory that a process may keep between two cases. ``harness ab`` makes glibc keep freed memory, so a process
would otherwise keep the gigabytes of one large case until its end."""

_START = """
import os, runpy, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
import harness
newer = Path(harness.__path__[0], "processes", "commit_worker.py").exists()
runpy.run_module("harness.processes.commit_worker" if newer else "harness.side", run_name="__main__", alter_sys=True)
"""


def start_command() -> list[str]:
    """The command that starts the process of the commit whose checkout is the current folder.

    Older commits call the module ``harness.side``. The started interpreter chooses, because only there the package
    ``harness`` is the checkout's. It looks for the file: if the harness is installed in editable mode, the import
    system would find a module that the checkout does not have in the installed source tree.
    """
    return [sys.executable, "-c", _START]


def _load_handler() -> Handler:
    import torch  # here, because the client imports this module without needing torch

    from harness.cases import runner
    from harness.cases.prepared import PreparedCase
    from harness.core.spec import Effort
    from harness.measure import machine
    from harness.processes.launch_counter import LaunchCounter

    prepared: PreparedCase | None = None
    threads = torch.get_num_threads()
    launches = LaunchCounter()

    def answer(line: str) -> str:
        nonlocal prepared
        request: dict[str, Any] = json.loads(line)
        if "prepare" in request:
            prepared = None
            gc.collect()  # frees the previous case before this one allocates
            # Objects that survived (transformers' modules alone are 400,000) are excluded from later collections.
            # Scanning them took 0.2 s per collection, longer than the samples, and every case and turn has one.
            gc.freeze()
            release_memory()
            spec: AnySpec = TypeAdapter(AnySpec).validate_python(request["prepare"])
            # Both processes prepare and train at the same time. Two threads on one core would wait for each other at
            # every barrier, so each process uses half of the threads. When sampling, each has all cores to itself.
            torch.set_num_threads(max(1, threads // 2))
            observed = request.get("observed", False)
            modules_before = len(sys.modules)
            record, prepared = runner.prepare(spec, request["verified"], observed, request.get("inputs_seed"))
            if len(sys.modules) > modules_before:  # excludes the modules that this case imported, too
                gc.freeze()
            return (record if observed else launches.counted(record)).model_dump_json()
        if "sample" in request:
            torch.set_num_threads(threads)
            return answer_of(lambda case: case.time(Effort(**request["sample"])).model_dump_json())
        if "verify" in request:
            return answer_of(verify)
        return json.dumps({"machine": machine.fingerprint(), "commit": machine.commit(), "verifies": True})

    def verify(case: PreparedCase) -> str:
        case.verify_timed_calls()
        return "{}"

    def answer_of(ask: Callable[[PreparedCase], str]) -> str:
        """The answer of the prepared case, or why it failed."""
        nonlocal prepared
        assert prepared is not None, "a case must be prepared before it is sampled"
        try:
            return ask(prepared)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything; the exception is the result of the case
            prepared = None
            failure = runner.failure(error)
            return json.dumps({"status": failure["status"], "reasons": failure["reasons"]})

    return answer


def release_memory() -> None:
    """Return freed memory to the system if the process holds more than ``KEPT_BYTES``; does nothing without glibc."""
    libc = ctypes.CDLL(None)
    if psutil.Process().memory_info().rss > KEPT_BYTES and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


if __name__ == "__main__":
    serve(_load_handler)
