"""Synthetic runs for the gate's tests: rounds of processes, each with its own random factor on its times."""

import numpy as np
import synthetic

from harness.core.record import Memory, Run, Timing
from harness.core.spec import OperationSpec

SPECS = tuple(OperationSpec(attention=name, seq_len=n) for name in ("sdpa", "yoso") for n in (128, 512, 2048))


def timed(spec, rng, scale=1.0, peak=10**6, process=0.01, sample=0.02, samples=12, turns=None):
    """The record of one process whose samples share one random factor; ``process`` and ``sample`` are spreads."""
    factor = np.exp(process * rng.standard_normal())
    seconds = (1e-2 * scale * factor * np.exp(np.abs(sample * rng.standard_normal(samples)))).tolist()
    timing = Timing(wall_seconds=seconds, warmup_calls=1, threads=2, turns=turns)
    return synthetic.record(
        spec, timing=timing, memory=Memory(peak_bytes=int(peak), input_bytes=10**6, source="synthetic")
    )


def pair(seed=0, rounds=8, slower=None, larger=None, specs=SPECS, session="one", **more) -> tuple[Run, Run]:
    """Runs of base and head; ``slower`` and ``larger`` are factors on head's times and peak memory, by spec."""
    rng = np.random.default_rng(seed)
    turns = None if session is None else [3, 3, 3, 3]
    base, head = [], []
    for _ in range(rounds):
        for spec in specs:
            base.append(timed(spec, rng, turns=turns, **more))
            scale, peak = (slower or {}).get(spec, 1.0), (larger or {}).get(spec, 1.0)
            head.append(timed(spec, rng, scale=scale, peak=peak * 10**6, turns=turns, **more))
    return synthetic.run(base, session=session), synthetic.run(head, session=session)
