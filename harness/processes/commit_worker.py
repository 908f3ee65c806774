"""One side of a comparison of two commits: a process that holds a prepared case and samples it in turns.

``python -m harness.processes.commit_worker`` reads a line of JSON at a time from standard input and answers with one::

    {"prepare": SPEC, "verified": BOOL, "observed": BOOL}
                         -> a Record without a timing; the case is held until the next one. See ``runner.prepare``
    {"sample": EFFORT}   -> a Timing, or {"status": ..., "reasons": [...]} where the case failed
    {"machine": DEVICE}  -> the machine's fingerprint and the code's commit

Both sides hold the same case at once, so that their samples can be taken a fraction of a second apart
(``harness.gate.commits.turns``): what the machine does meanwhile meets both.
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
from harness.processes.protocol import serve

KEPT_BYTES = 2 * 2**30
"""What a process may hold between two cases. ``harness ab`` has glibc keep what is freed; after a case that took
gigabytes both sides would hold them to the end."""


def main() -> None:
    """The process."""
    serve(_load)


def _load() -> Callable[[str], str]:
    import torch  # here: not for who asks for this file's words alone

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
        task: dict[str, Any] = json.loads(line)
        if "prepare" in task:
            prepared = None
            gc.collect()  # the case before is gone before this one takes memory
            # What outlived it (transformers' modules alone are 400,000 objects) is not looked through again: it took a
            # collection 0.2 s, more than the samples, and there is one for each case and each turn.
            gc.freeze()
            give_back()
            spec: AnySpec = TypeAdapter(AnySpec).validate_python(task["prepare"])
            # Both sides prepare and train at the same time, and two threads on one core wait for each other at every
            # barrier. In turns each has all cores to itself.
            torch.set_num_threads(max(1, threads // 2))
            observed = task.get("observed", False)
            known = len(sys.modules)
            record, prepared = runner.prepare(spec, task["verified"], observed)
            if len(sys.modules) > known:  # nor are the modules that this case imports
                gc.freeze()
            return (record if observed else launches.counted(record)).model_dump_json()
        if "sample" in task:
            assert prepared is not None, "a case must be prepared before it is sampled"
            torch.set_num_threads(threads)
            try:
                return prepared.time(Effort(**task["sample"])).model_dump_json()
            except Exception as error:  # a plugin is somebody else's code: whatever it raises is the result
                prepared = None
                return json.dumps(runner.failure(error))
        return json.dumps({"machine": machine.fingerprint(), "commit": machine.commit()})

    return answer


def give_back() -> None:
    """Hand freed memory to the system where the process holds more than ``KEPT_BYTES``; nothing without glibc."""
    libc = ctypes.CDLL(None)
    if psutil.Process().memory_info().rss > KEPT_BYTES and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


if __name__ == "__main__":
    main()
