"""``harness.run``: a list of cases measured from Python, and the run with their records."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime

import torch

from harness.cases import in_this_process
from harness.core import registry
from harness.core.record import Record, Run
from harness.core.spec import AnySpec, Effort, Spec, TaskSpec
from harness.measure import ceilings, machine, machine_use
from harness.processes.case_worker import CaseWorker
from harness.profiles import profile as profiles

PROFILE = "python"
"""The profile that a run has which Python code chose the cases of."""


def run(specs: Iterable[AnySpec], *, effort: Effort | None = None, in_process: bool = False) -> Run:
    """Measure cases one after the other, each verified before it is timed.

    This is what ``harness.compare`` stands on, for cases that it does not have: whole models, training steps, knobs, or
    errors on other inputs::

        import harness

        specs = [harness.OperationSpec(attention="yoso", seq_len=512, knobs={"num_hash": m}) for m in (8, 32)]
        for record in harness.run(specs).records:
            print(record.case_id, record.status)

    Args:
        specs: the cases (``OperationSpec``, ``ModelSpec``, ``QualitySpec``, ``TaskSpec``), of attentions by name.
        effort: how long each case is warmed up and sampled; None: as the profile ``quick`` does.
        in_process: measure all cases in this process. By default each attention has a process of its own, unless
            ``harness.core.registry.add`` added it, which only this process knows.

    Returns:
        The run with one record per case, in order. A case that fails has a record with its status and reasons.

    Raises:
        ValueError: a case is not a spec, or ``effort`` is no ``Effort``.
    """
    if effort is not None and not isinstance(effort, Effort):
        raise ValueError(
            f"effort must be a harness.Effort or None, got {type(effort).__name__} {effort!r}; for example "
            "harness.Effort(min_samples=5, max_samples=100, seconds=1.0, warmup_calls=2, warmup_seconds=0.1)"
        )
    cases = list(specs) if isinstance(specs, Iterable) and not isinstance(specs, Spec) else [None]
    for case in cases:
        if not isinstance(case, Spec):
            raise ValueError(
                "specs must be a list of OperationSpec, ModelSpec, QualitySpec or TaskSpec, got "
                f"{type(specs if case is None else case).__name__}"
            )
    begun = header("harness.run([...])", sorted({case.device for case in cases}))
    return begun.model_copy(update={"records": list(measured(cases, effort or default_effort(), in_process))})


def default_effort() -> Effort:
    """How long the profile ``quick`` warms up and samples a case."""
    return profiles.get("quick").effort


def header(command: str, devices: Sequence[str]) -> Run:
    """A run of this machine without records. The peak throughput of the devices is measured, for about a second.

    Args:
        command: the Python call that reproduces the run; it begins with ``harness.``
        devices: those of the cases.
    """
    available = [device for device in devices if torch.device(device).type == "cpu" or torch.cuda.is_available()]
    measured_ceilings = []
    for device in available:
        with _kept_generators(device):
            measured_ceilings += ceilings.measure(device)
    return Run(
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        profile=PROFILE,
        commit=machine.commit(),
        machine=machine.fingerprint(),
        ceilings=measured_ceilings,
        records=[],
    )


def measured(specs: Iterable[AnySpec], effort: Effort, in_process: bool) -> Iterator[Record]:
    """The record of each case as soon as it is there. The state of torch's generators is that of before afterwards.

    Args:
        specs: the cases.
        effort: how long each is sampled.
        in_process: whether all cases run in this process.
    """
    with closing(CaseWorker(timeout=None)) as worker:
        for spec in specs:
            before = machine_use.Reading.now()
            if in_process or _only_known_here(spec):
                with _kept_generators(spec.device):
                    record = in_this_process.run(spec, effort)
            else:
                record = worker.run(spec, effort)
            used = machine_use.used_between(before, machine_use.Reading.now(), os.getloadavg()[0])
            yield record.model_copy(update={"machine_use": used})


def _kept_generators(device: str) -> AbstractContextManager[None]:
    """Puts torch's generators of the CPU, and for a CUDA device of all of these, back to where they were."""
    is_cuda = torch.device(device).type == "cuda" and torch.cuda.is_available()
    return torch.random.fork_rng(devices=range(torch.cuda.device_count()) if is_cuda else [])


def _only_known_here(spec: AnySpec) -> bool:
    attentions = {spec.attention}
    if isinstance(spec, TaskSpec):
        attentions |= {swap.attention for swap in spec.evaluate_with}
    return bool(attentions & registry.added_names())
