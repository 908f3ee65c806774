"""What a case may change in its process: settings that would silently change the numbers of later cases.

``snapshot`` reads the state, ``differences`` names what changed between two snapshots, ``findings`` compares the
process with a snapshot and looks for threads that still work, and ``restore`` writes back what can be written back.
``clean_numerics`` holds the settings that decide in which precision torch computes, and ``keep_python_generators`` the
random states that a training of the harness would change.

Not compared: what torch and its compilers do once per process and what every case may do. These are modules that were
imported, sleeping threads and processes, torch's default generator (a case draws from it) and memory that the allocator
keeps. Sleeping helpers cost nothing; those that work are found by the processor time that they use.
"""

import gc
import os
import random
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
import torch

from harness.measure.idle_work import still_working, thread_ids
from yoso.torch_private import active_modes

AUTOCAST_DEVICES = ("cpu", "cuda")
THREADS_ARE_BOUND = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
"""Variables with which the user lets OpenMP bind threads to cores, which it does in the first parallel region."""
ALLOWED_VARIABLES = ("TORCHINDUCTOR_", "_TORCHINDUCTOR_", "TRITON_", "PYTEST_CURRENT_TEST")
"""How variables begin that torch.compile sets for itself and for its compilers' processes, such as cache folders; and
pytest's own, which names the step that is running."""
ALLOWED_THREADS = ("ThreadPoolExecutor-", "tqdm_monitor")
"""How threads are named that torch.compile leaves waiting for work, and the one that redraws progress bars every ten
seconds. One that does work is found by the processor time."""
WATCHED = (
    "torch:autocast",
    "torch:compile",
    "torch:matmul",
    "torch:randn",
    "torch:softmax",
    "torch.autograd:backward",
    "torch.autograd:grad",
    "torch.cuda:synchronize",
    "torch.nn.functional:linear",
    "torch.nn.functional:scaled_dot_product_attention",
    "torch.nn.functional:softmax",
    "torch:Tensor.__matmul__",
    "torch:Tensor.__torch_function__",
    "torch:Tensor.backward",
    "torch:Tensor.softmax",
    "torch:Tensor.to",
    "torch.nn:Module.__call__",
    "time:perf_counter",
    "time:perf_counter_ns",
    "time:monotonic",
    "time:sleep",
    "gc:collect",
)
"""Functions that the harness and the attentions rely on, as ``module:name``. Not ``torch.manual_seed``: torch itself
replaces it when ``torch.compile`` is imported."""
WATCHED_PACKAGES = ("harness.cases.", "harness.measure.", "harness.models.", "harness.training.")
"""Of their modules that are loaded, all public functions are watched."""
FOLLOWED_BLOCKS = 1000
"""Blocks of 624 numbers for which a generator is followed to see whether it was only drawn from. Importing a library
may draw from Python's generator, as ``rich`` does."""


@dataclass(frozen=True)
class _Setting:
    """A setting of the process: its name in a sentence, how it is read, and how it is written back if it can be.

    A sentence has the values unless they are ``private``: paths and addresses would be published with the record.
    """

    name: str
    read: Callable[[], object]
    write: Callable[[Any], object] | None = None
    private: bool = False


@dataclass(frozen=True)
class ProcessState:
    """The state of a process at one moment.

    Attributes:
        settings: value by name, of every setting in ``_SETTINGS``.
        environment: environment variables.
        signals: the handler of each signal, by the signal's name.
        generators: the states of the global random generators of Python and numpy.
        threads: Python's threads.
        affinity: cores that the threads of the process may use; None where OpenMP binds them.
        functions: what the watched names refer to.
        cuda_is_initialized: the process has a CUDA context.
    """

    settings: Mapping[str, object]
    environment: Mapping[str, str]
    signals: Mapping[str, object]
    generators: Mapping[str, tuple[int, ...]]
    threads: frozenset[threading.Thread]
    affinity: frozenset[int] | None
    functions: Mapping[str, object] = field(repr=False)
    cuda_is_initialized: bool


def snapshot() -> ProcessState:
    """The state of this process now; a setting that cannot be read has the error as its value."""
    return ProcessState(
        settings={setting.name: _read(setting.read) for setting in _SETTINGS},
        environment=dict(os.environ),
        signals={number.name: _read(lambda number=number: signal.getsignal(number)) for number in signal.Signals},  # type: ignore[misc]
        generators=_generators(),
        threads=frozenset(threading.enumerate()),
        affinity=_affinity(),
        functions=_functions(),
        cuda_is_initialized=torch.cuda.is_initialized(),
    )


def differences(before: ProcessState, after: ProcessState, device: str = "cpu") -> list[str]:
    """What changed, one sentence each; empty where nothing did.

    Args:
        before: the state before a case.
        after: the state after it.
        device: the device of the case; only a CUDA case may create a CUDA context.
    """
    found = []
    for setting in _SETTINGS:
        old, new = before.settings[setting.name], after.settings[setting.name]
        if old != new:
            found.append(f"{setting.name} changed" if setting.private else _change(setting.name, old, new))
    if before.affinity != after.affinity and before.affinity is not None and after.affinity is not None:
        found.append(f"the CPU affinity changed from {_cores(before.affinity)} to {_cores(after.affinity)}")
    for name in sorted({*before.environment, *after.environment}):
        if before.environment.get(name) != after.environment.get(name) and not _is_allowed(name):
            found.append(f"the environment variable {name} {_how_it_changed(name, before, after)}")
    for name, handler in before.signals.items():
        if after.signals[name] != handler:
            found.append(f"the handler of {name} changed from {_handler(handler)} to {_handler(after.signals[name])}")
    for name, state in before.generators.items():
        if not _was_only_drawn_from(state, after.generators[name]):
            found.append(f"{name} was seeded")
    for name, function in before.functions.items():
        if after.functions.get(name, function) is not function:
            found.append(f"{name} was replaced by another function")
    new_threads = sorted(thread.name for thread in after.threads - before.threads)
    new_threads = [name for name in new_threads if not name.startswith(ALLOWED_THREADS)]
    if new_threads:
        found.append(f"threads of Python were left running: {', '.join(new_threads)}")
    if after.cuda_is_initialized and not before.cuda_is_initialized and not device.startswith("cuda"):
        found.append(f"CUDA was initialized, although the case runs on {device}")
    return found


def findings(before: ProcessState, device: str) -> list[str]:
    """What a case on ``device`` changed in this process since ``before``, and whether it left something working."""
    try:
        return differences(before, snapshot(), device) + still_working()
    except Exception as error:  # an attention may have broken what reads the state, and its record must not be lost
        return [f"the state of the process can no longer be read ({type(error).__name__})"]


def restore(before: ProcessState) -> None:
    """Write back what has changed since ``before`` and can be written.

    This is every setting in ``_SETTINGS`` with ``write``, environment variables, signal handlers, the CPU affinity, and
    the states of the random generators.

    Threads, child processes, replaced functions, a CUDA context, modes that are still active, resource limits, and the
    number of inter-op threads stay as they are.
    """
    after = snapshot()
    for setting in _SETTINGS:
        with suppress(Exception):  # what cannot be written back was reported as changed
            _write_changed(setting, before.settings[setting.name])
    for name in {*before.environment, *after.environment}:
        if name not in before.environment:
            os.environ.pop(name, None)
        elif after.environment.get(name) != before.environment[name]:
            os.environ[name] = before.environment[name]
    for name, handler in before.signals.items():
        if after.signals[name] != handler and handler is not None:
            with suppress(Exception):  # only the main thread may set handlers
                signal.signal(signal.Signals[name], handler)  # type: ignore[arg-type]
    python, of_numpy = before.generators.values()
    random.setstate((3, python, None))
    np.random.set_state(("MT19937", np.array(of_numpy[:-1], np.uint32), of_numpy[-1], 0, 0.0))
    if before.affinity and after.affinity != before.affinity:
        for thread in thread_ids():
            with suppress(OSError):  # the thread has ended
                os.sched_setaffinity(thread, before.affinity)


@contextmanager
def clean_numerics() -> Iterator[None]:
    """Autocast and inference mode off, float32 as default dtype, and float32 products at full precision, inside.

    Inputs are made and oracles run under it: with autocast left on by a plugin, the oracle would compute in bfloat16,
    and a wrong result would be compared with one that is as wrong.
    """
    numerics = [setting for setting in _SETTINGS if setting.name in _CLEAN]
    values = {setting.name: _read(setting.read) for setting in numerics}
    with torch.inference_mode(False):
        try:
            for setting in numerics:
                _write_changed(setting, _CLEAN[setting.name])
            yield
        finally:
            for setting in numerics:
                _write_changed(setting, values[setting.name])


@contextmanager
def keep_python_generators() -> Iterator[None]:
    """The states of Python's and numpy's global generators are afterwards what they were before."""
    python, of_numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(of_numpy)


def _write_changed(setting: _Setting, value: object) -> None:
    if setting.write is not None and _read(setting.read) != value and not isinstance(value, _Unreadable):
        setting.write(value)


class _Unreadable(str):
    """The error of a setting that could not be read, in place of its value."""


def _read(read: Callable[[], object]) -> object:
    try:
        return read()
    except Exception as error:  # for example a working directory that was deleted, or precision set with two APIs
        return _Unreadable(f"a value that cannot be read ({type(error).__name__})")


def _change(name: str, before: object, after: object) -> str:
    if isinstance(before, bool) and isinstance(after, bool):
        return f"{name} was switched {'on' if after else 'off'}"
    return f"{name} changed from {before} to {after}"


def _handler(handler: object) -> str:
    if isinstance(handler, signal.Handlers):
        return handler.name
    return getattr(handler, "__qualname__", None) or str(handler)


def _cores(cores: frozenset[int]) -> str:
    return f"cores {', '.join(map(str, sorted(cores)))}"


def _is_allowed(variable: str) -> bool:
    return variable.startswith(ALLOWED_VARIABLES)


def _how_it_changed(name: str, before: ProcessState, after: ProcessState) -> str:
    """The values are left out: they may be secrets or name paths of the machine, and records are published."""
    if name not in before.environment:
        return "was set"
    return "was removed" if name not in after.environment else "changed"


def _affinity() -> frozenset[int] | None:
    """The cores of all threads together: one thread alone may have fewer, and then these are the process's."""
    if not hasattr(os, "sched_getaffinity") or any(name in os.environ for name in THREADS_ARE_BOUND):
        return None
    smallest = frozenset(os.sched_getaffinity(0))
    for thread in thread_ids():
        with suppress(OSError):  # the thread has ended
            smallest = min(smallest, frozenset(os.sched_getaffinity(thread)), key=len)
    return smallest


def _functions() -> dict[str, object]:
    functions: dict[str, object] = {}
    for path in WATCHED:
        module_name, _, name = path.partition(":")
        value: Any = sys.modules.get(module_name)
        for part in name.split("."):
            # Not getattr: a method that is looked up on a class is a new object each time.
            value = vars(value).get(part) if value is not None else None
        functions[f"{module_name}.{name}"] = value
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(WATCHED_PACKAGES):
            public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
            functions |= {f"{module_name}.{name}": value for name, value in public.items() if callable(value)}
    return functions


def _generators() -> dict[str, tuple[int, ...]]:
    """Words and position of both Mersenne Twisters."""
    state: Any = np.random.get_state(legacy=False)
    of_numpy: tuple[int, ...] = ()
    if state["bit_generator"] == "MT19937":  # otherwise it was exchanged, which looks as if it was seeded
        of_numpy = (*state["state"]["key"].tolist(), state["state"]["pos"])
    return {"Python's random": random.getstate()[1], "numpy.random": of_numpy}


def _was_only_drawn_from(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether a Mersenne Twister in the state ``before`` passes through ``after``, as far as it is followed."""
    twister = random.Random()
    twister.setstate((3, before, None))
    for _ in range(FOLLOWED_BLOCKS):
        words = twister.getstate()[1][:-1]
        if words == after[:-1]:
            return True
        twister.getrandbits(32 * len(words))
    return False


def _restore_default_device(device: torch.device) -> None:
    # A default of the CPU is torch's own state without a default, which costs no mode in every call.
    torch.set_default_device(None if device.type == "cpu" else device)


def _flushes_subnormals() -> bool:
    return (torch.full((1,), 1e-310, dtype=torch.float64, device="cpu") * 1.0).item() == 0.0


def _attribute(owner: Any, name: str) -> tuple[Callable[[], object], Callable[[Any], object]]:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


def _autocast_settings(device: str) -> list[_Setting]:
    return [
        _Setting(
            f"autocast on {device}",
            lambda: torch.is_autocast_enabled(device),
            lambda enabled: torch.set_autocast_enabled(device, enabled),
        ),
        _Setting(
            f"the dtype of autocast on {device}",
            lambda: torch.get_autocast_dtype(device),
            lambda dtype: torch.set_autocast_dtype(device, dtype),
        ),
    ]


def _attribute_settings(path: str, *names: str) -> list[_Setting]:
    owner = attrgetter(path.removeprefix("torch."))(torch)
    return [_Setting(f"{path}.{name}", *_attribute(owner, name)) for name in names]


def _limit_setting(name: str) -> _Setting:
    return _Setting(f"the limit resource.{name}", lambda: resource.getrlimit(getattr(resource, name)))


def _sdp_settings() -> list[_Setting]:
    cuda = torch.backends.cuda
    backends: list[tuple[str, Callable[[], bool], Callable[[bool], None]]] = [
        ("flash", cuda.flash_sdp_enabled, cuda.enable_flash_sdp),
        ("memory-efficient", cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp),
        ("math", cuda.math_sdp_enabled, cuda.enable_math_sdp),
        ("cuDNN", cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp),
    ]
    return [_Setting(f"the {name} backend of scaled_dot_product_attention", *rest) for name, *rest in backends]  # type: ignore[arg-type]


_SETTINGS: tuple[_Setting, ...] = (
    # Before the precisions of single libraries, because writing it also writes those.
    _Setting(
        "torch.get_float32_matmul_precision()", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    *_attribute_settings("torch.backends", "fp32_precision"),
    *_attribute_settings("torch.backends.mkldnn.matmul", "fp32_precision"),
    *_attribute_settings(
        "torch.backends.cuda.matmul",
        "fp32_precision",
        "allow_fp16_reduced_precision_reduction",
        "allow_bf16_reduced_precision_reduction",
        "allow_fp16_accumulation",
    ),
    *_attribute_settings("torch.backends.cudnn", "enabled", "benchmark", "deterministic", "allow_tf32"),
    *_attribute_settings("torch.backends.mkldnn", "enabled", "deterministic"),
    *_sdp_settings(),
    _Setting("torch.get_default_dtype()", torch.get_default_dtype, torch.set_default_dtype),
    _Setting("torch.get_default_device()", torch.get_default_device, _restore_default_device),
    *(setting for device in AUTOCAST_DEVICES for setting in _autocast_settings(device)),
    _Setting("the cache of autocast", torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    _Setting("gradient mode", torch.is_grad_enabled, torch.set_grad_enabled),
    _Setting("inference mode", torch.is_inference_mode_enabled),
    _Setting("anomaly detection of autograd", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    _Setting(
        "torch.get_deterministic_debug_mode()", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode
    ),
    *_attribute_settings("torch.utils.deterministic", "fill_uninitialized_memory"),
    _Setting("the number of active torch modes", active_modes),
    _Setting("the flushing of subnormal numbers to 0", _flushes_subnormals, torch.set_flush_denormal),
    _Setting("torch.get_num_threads()", torch.get_num_threads, torch.set_num_threads),
    _Setting("torch.get_num_interop_threads()", torch.get_num_interop_threads),
    _Setting("the working directory", os.getcwd, os.chdir, private=True),
    _Setting("garbage collection", gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable()),
    _Setting("gc.get_threshold()", gc.get_threshold, lambda threshold: gc.set_threshold(*threshold)),
    _Setting("sys.gettrace()", sys.gettrace, sys.settrace, private=True),
    _Setting("sys.getprofile()", sys.getprofile, sys.setprofile, private=True),
    _Setting("sys.getswitchinterval()", sys.getswitchinterval, sys.setswitchinterval),
    _Setting("the priority of the process", lambda: os.getpriority(os.PRIO_PROCESS, 0)),
    _Setting("the scheduling policy", lambda: os.sched_getscheduler(0)),
    _Setting("the interval timer", lambda: signal.getitimer(signal.ITIMER_REAL)[0] != 0),
    *(_limit_setting(name) for name in sorted(vars(resource)) if name.startswith("RLIMIT_")),
)
_CLEAN: dict[str, object] = {
    "torch.get_float32_matmul_precision()": "highest",
    "torch.backends.cuda.matmul.fp32_precision": "ieee",
    "torch.backends.mkldnn.matmul.fp32_precision": "ieee",
    "torch.get_default_dtype()": torch.float32,
    **{f"autocast on {device}": False for device in AUTOCAST_DEVICES},
}
"""The settings inside ``clean_numerics``."""
