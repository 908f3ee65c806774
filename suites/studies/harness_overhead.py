"""What the harness adds to a call of about a millisecond, against a loop written by hand in the same process.

It is no part of the profiles and no pytest suite. Run it by its name::

    python suites/studies/harness_overhead.py --out overhead.json

The call is torch's ``scaled_dot_product_attention`` at the first length whose call takes a millisecond here. Each round
has one case of the harness, from its spec to its record as ``harness run`` takes it, and one loop of ``perf_counter``
around the bare function on the same numbers; every other round takes them in the other order. A round's ratio is the
harness's median sample over the loop's. The same loop against itself is the noise of that comparison.
"""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch.nn.functional import scaled_dot_product_attention

from harness.cases import runner
from harness.core.spec import OperationSpec
from harness.measure import inputs, machine
from harness.profiles import profile
from harness.statistics import intervals

TARGET_SECONDS = 1e-3
LENGTHS = range(64, 2049, 32)
EFFORT = profile.get("quick").effort
BAR = 1.05


def by_hand(spec: OperationSpec) -> float:
    """Median seconds of a call in a plain loop that lasts as long, and takes as many samples, as the harness's."""
    given = inputs.make(spec)
    q, k, v = given.q, given.k, given.v
    samples: list[float] = []
    with torch.no_grad():
        warm_until = perf_counter() + EFFORT.warmup_seconds
        while perf_counter() < warm_until:
            scaled_dot_product_attention(q, k, v)
        end = perf_counter() + EFFORT.seconds
        while perf_counter() < end and len(samples) < EFFORT.max_samples:
            start = perf_counter()
            scaled_dot_product_attention(q, k, v)
            samples.append(perf_counter() - start)
    return median(samples)


def by_harness(spec: OperationSpec) -> float:
    """Median seconds of a call in the record of the case.

    Raises:
        RuntimeError: the case has no timing; the message has its reasons.
    """
    record = runner.run(spec, EFFORT)
    if record.timing is None:
        raise RuntimeError(f"{spec.case_id} is {record.status}: {'; '.join(record.reasons)}")
    return median(record.timing.wall_seconds)


def rounds(of: int, ours: Callable[[], float], theirs: Callable[[], float]) -> list[tuple[float, float]]:
    """Seconds of both, a pair a round, the order turned every other round."""
    found = []
    for turn in range(of):
        if turn % 2:
            second, first = theirs(), ours()
        else:
            first, second = ours(), theirs()
        found.append((first, second))
    return found


def summary(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """The median ratio with its bootstrap interval, the spread of the rounds, and every round's seconds."""
    ratios = [ours / theirs for ours, theirs in pairs]
    found = intervals.bootstrap_median(ratios, np.random.default_rng(0))
    return {
        "ratio_median": found.value,
        "ratio_low": found.low,
        "ratio_high": found.high,
        "ratio_smallest": min(ratios),
        "ratio_largest": max(ratios),
        "seconds": [list(pair) for pair in pairs],
    }


def main(
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON to write")] = Path("overhead.json"),
    repeats: Annotated[int, typer.Option(help="rounds", min=4)] = 40,
) -> None:
    """Measure, write the JSON and print the ratio."""

    def spec(length: int) -> OperationSpec:
        return OperationSpec(attention="sdpa", seq_len=length)

    length = next((n for n in LENGTHS if by_hand(spec(n)) >= TARGET_SECONDS), LENGTHS[-1])
    case = spec(length)
    harness = summary(rounds(repeats, lambda: by_harness(case), lambda: by_hand(case)))
    noise = summary(rounds(repeats, lambda: by_hand(case), lambda: by_hand(case)))
    found = {
        "what": "seconds of a call by the harness over those in a loop by hand; medians of a round's samples",
        "case": case.case_id,
        "call_seconds": median(hand for _, hand in harness["seconds"]),
        "threads": torch.get_num_threads(),
        "rounds": repeats,
        "interval_level": intervals.LEVEL,
        "bar": BAR,
        "harness_over_hand": harness,
        "hand_over_hand": noise,
        "commit": machine.commit(),
        "machine": machine.fingerprint(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    low, high = harness["ratio_low"], harness["ratio_high"]
    typer.echo(f"{case.case_id}: {found['call_seconds'] * 1e3:.3f} ms by hand")
    typer.echo(f"harness / by hand {harness['ratio_median']:.4f} [{low:.4f}, {high:.4f}]")
    typer.echo(f"by hand / by hand {noise['ratio_median']:.4f}; {out}")


if __name__ == "__main__":
    typer.run(main)
