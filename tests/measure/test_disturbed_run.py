"""Whether a whole run was disturbed: the counters, the clocks, the judgement, and where a reader meets it."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import synthetic
from same_call import SameCall
from test_store import HEADER

from harness.core.record import Clocks, MachineUse, Record, Timing
from harness.core.spec import Effort, OperationSpec
from harness.core.store import Log, load, read_part
from harness.measure import clocks, machine_use, timing
from harness.measure.machine_use import ProcessUse, Reading
from harness.report.comparison import compare
from harness.statistics import disturbed_run

ROOT = Path(__file__).parents[2]
SPEC = OperationSpec(attention="sdpa", seq_len=128)
QUIET = {"elapsed_seconds": 2.5, "cores": 2, "own_cpu_seconds": 4.6, "stolen_cpu_seconds": 0.0, "load": 2.1}
QUIET |= {"foreign_cpu_seconds": 0.03, "thermal_throttles": 0}
"""Recorded: a case on two threads of an idle machine of two cores; its own threads are the load."""
BESIDE_A_LOOP = QUIET | {"own_cpu_seconds": 2.6, "foreign_cpu_seconds": 2.3, "load": 3.4}
"""Recorded: the same case beside a process that never waits."""


def record(start: int = 0, use: dict | None = QUIET, took: float = 2.0, **of_timing: object) -> Record:
    """The record of a case that began so many seconds after noon, UTC."""
    began = f"2026-01-02T12:{start // 60:02}:{start % 60:02}+00:00"
    timed = Timing(**({"wall_seconds": [1e-3], "warmup_calls": 1, "threads": 2, "disturbed": False} | of_timing))
    used = None if use is None else MachineUse(**use)
    return synthetic.record(SPEC, started=began, took_seconds=took, timing=timed, machine_use=used)


def at_mhz(*frequencies: float) -> dict:
    return {"clocks": Clocks(core_mhz=list(frequencies))}


def on_gpu(mhz: float = 1980, *limits: str) -> dict:
    return {"clocks": Clocks(sm_mhz=mhz, gpu_watts=300, gpu_limits=list(limits))}


def run_of(disturbed: list[Record], calm: int = 20) -> list[Record]:
    """These cases and calm ones around them, which are the first and the last of the run."""
    return [record(0), *disturbed, *(record(60 + 3 * number) for number in range(calm))]


CALM = {
    "no records": [],
    "recorded": run_of([]),
    "older records": [record(use=None) for _ in range(5)],
    "the run's own threads are the load": [record(use=None, load_before=2.4)] * 3,
    "a load that ended a minute ago": [record(use=QUIET | {"load": 9.0})] * 3,
    "short cases, inaccurate ticks": [record(use=QUIET | {"elapsed_seconds": 0.05, "foreign_cpu_seconds": 0.03})] * 4,
    "one second of another in ten minutes": run_of([record(30, BESIDE_A_LOOP)], calm=240),
    "another process on one of sixty-four cores": [record(use=BESIDE_A_LOOP | {"cores": 64})] * 3,
    "one reading of the clock during a pause": run_of([record(30, **at_mhz(800, 800))]),
    "idle cores are slow": [record(n, **at_mhz(3000, 3010, 800 + 900 * (n % 2))) for n in range(20)],
    "a GPU at its power cap": [record(use=None, **on_gpu(1900, "SwPowerCap"))] * 3,
    "no other process on the GPU": [record(use=None, foreign_gpu_processes=0, disturbed=None)] * 3,
    "a case that was not begun": [synthetic.record(SPEC, "timeout", reasons=["not begun: the deadline"])],
}
DISTURBED = {
    "foreign processes": (
        run_of([record(30, BESIDE_A_LOOP), record(33, BESIDE_A_LOOP)]),
        "processes that do not belong to the run used up to 0.92 of the 2 cores (load average up to 3.4)",
    ),
    "virtual machine's host": (
        run_of([record(30, QUIET | {"stolen_cpu_seconds": 1.5}), record(33, QUIET | {"stolen_cpu_seconds": 1.0})]),
        "the host of this virtual machine took up to 0.6 of its 2 cores for others",
    ),
    "heat": (
        run_of([record(30, QUIET | {"thermal_throttles": 1}), record(33, QUIET | {"thermal_throttles": 4})]),
        "cores were slowed down 5 times because they were too hot",
    ),
    "clock": (
        [record(30 + 3 * n, **at_mhz(1900, 2100) if n < 2 else at_mhz(3000, 3010)) for n in range(20)],
        "the clock of the cores changed between 2000 and 3005 MHz, and was more than 10% away from 3005 MHz, its "
        "median, in 2 of 20 timed cases",
    ),
    "GPU throttled": (
        run_of([record(30, **on_gpu(1980, "HwThermalSlowdown", "SwPowerCap")), record(33, **on_gpu())]),
        "the GPU was throttled in 1 of 2 timed cases (HwThermalSlowdown)",
    ),
    "GPU processes": (
        run_of([record(30, foreign_gpu_processes=1), record(33, foreign_gpu_processes=2)]),
        "other processes were on the GPU in 2 of 23 timed cases",
    ),
    "samples": (
        run_of([record(30, disturbed=True), record(33, disturbed=True)]),
        "the samples of 2 of 23 timed cases lost their cores to other processes",
    ),
}


@pytest.mark.parametrize("records", CALM.values(), ids=CALM)
def test_a_calm_run_is_not_called_disturbed(records: list[Record]) -> None:
    assert disturbed_run.judge(records, cores=2) is None


@pytest.mark.parametrize("kind", DISTURBED)
def test_a_disturbance_is_named_with_its_size_and_its_time(kind: str) -> None:
    records, words = DISTURBED[kind]
    found = disturbed_run.judge(records[::-1])
    assert found is not None
    (cause,) = found.causes
    assert (cause.kind, cause.words) == (kind, words)
    assert cause.began is not None
    assert cause.ended is not None
    assert f"{cause.began:%H:%M:%S}" == "12:00:30"
    assert f"{cause.ended:%H:%M:%S}" == ("12:00:32" if kind == "GPU throttled" else "12:00:35")


def test_the_sentence_has_the_whole_time_and_every_cause() -> None:
    found = disturbed_run.judge(run_of([record(30, BESIDE_A_LOOP), record(40, disturbed=True)]))
    assert found is not None
    assert found.sentence == (
        "This run was disturbed from 2026-01-02 12:00:30 to 12:00:42 UTC, for 4.0 s of the 46 s that its cases took: "
        "processes that do not belong to the run used up to 0.92 of the 2 cores (load average up to 3.4); the samples "
        "of 1 of 23 timed cases lost their cores to other processes. Its times may be too long, and unequally so: "
        "repeat it on an idle machine before comparing them."
    )
    plain = found.as_json()
    assert plain == json.loads(json.dumps(plain))
    assert [cause["cases"] for cause in plain["causes"]] == [1, 1]


@pytest.mark.parametrize("use", [None, QUIET | {"foreign_cpu_seconds": None, "load": 5.7}], ids=["older", "sandbox"])
def test_the_load_counts_where_the_cpu_time_of_others_is_not_known(use: dict | None) -> None:
    found = disturbed_run.judge([record(use=use, load_before=5.7)], cores=2)
    assert found is not None
    assert [cause.words for cause in found.causes] == ["the load average was up to 5.7 on 2 cores"]


def test_short_cases_are_judged_together() -> None:
    """Each is too short for the ticks of the counters; all of them are not."""
    busy = QUIET | {"elapsed_seconds": 0.1, "foreign_cpu_seconds": 0.08}
    assert disturbed_run.judge([record(use=busy)] * 2) is None
    found = disturbed_run.judge([record(use=busy, took=0.1)] * 25)
    assert found is not None
    assert found.causes[0].cases == 25


@pytest.mark.parametrize("started", ["yesterday", "9999-12-31T23:59:59Z"])
def test_a_damaged_time_does_not_hide_a_disturbance(started: str) -> None:
    damaged = record(use=BESIDE_A_LOOP, took=1e11).model_copy(update={"started": started})
    found = disturbed_run.judge([damaged])
    assert found is not None
    assert "used up to 0.92" in found.sentence
    assert (found.began is None) == (started == "yesterday")


def reading(at: float, busy: float, processes: dict[int, tuple[int, float]], stolen: float | None = 0.0) -> Reading:
    """A reading of two cores; a process starts when the number that is its ID says."""
    used = {(process, float(process)): ProcessUse(*of) for process, of in processes.items()}
    return Reading(at, 2, busy, stolen, used, None)


def test_cpu_time_that_is_not_of_the_run_is_foreign() -> None:
    before = reading(0.0, 100.0, {1: (0, 5.0), 2: (1, 3.0)})
    after = reading(10.0, 118.0, {1: (0, 6.0), 2: (1, 10.0)}, stolen=1.5)
    used = machine_use.used_between(before, after, 2.5)
    assert used == MachineUse(
        elapsed_seconds=10.0, cores=2, own_cpu_seconds=8.0, foreign_cpu_seconds=10.0, stolen_cpu_seconds=1.5, load=2.5,
        thermal_throttles=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("after", "own"),
    [
        ({1: (0, 12.0)}, 7.0),  # 2 has ended, and 1 has waited for it: of its 6 seconds 3 were before
        ({1: (0, 12.0), 4: (1, 2.0)}, 9.0),  # another one has begun
        ({1: (0, 12.0), 2: (1, 3.0)}, 10.0),
    ],
)
def test_the_time_of_processes_of_the_run_that_have_ended_is_its_own(after: dict, own: float) -> None:
    before = reading(0.0, 0.0, {1: (0, 2.0), 2: (1, 3.0)})
    assert machine_use.own_seconds(before, reading(1.0, 0.0, after)) == own


def test_processes_that_were_killed_with_their_parent_do_not_turn_their_time_into_that_of_others() -> None:
    """Compilers that an attention's process had started: nobody has waited for them, so that nobody has their time."""
    before = reading(0.0, 0.0, {1: (0, 2.0), 2: (1, 3.0), 3: (2, 30.0)})
    after = reading(1.0, 1.0, {1: (0, 5.5)})
    assert machine_use.own_seconds(before, after) == 0.5
    assert machine_use.used_between(before, after, 0.0).foreign_cpu_seconds == 0.5


def test_a_system_that_does_not_count_the_run_counts_nobody() -> None:
    used = machine_use.used_between(reading(0.0, 0.0, {1: (0, 0.0)}, None), reading(5.0, 0.0, {1: (0, 9.0)}, None), 0.0)
    assert used.foreign_cpu_seconds is None
    assert used.stolen_cpu_seconds is None


def test_heat_is_counted_on_the_cores_that_have_a_counter(tmp_path: Path) -> None:
    for core, count in enumerate((3, 4, 100)):
        folder = tmp_path / f"cpu{core}" / "thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(f"{count}\n")
    assert machine_use.thermal_throttles(tmp_path, [0, 1, 7]) == 7
    assert machine_use.thermal_throttles(tmp_path / "none", [0]) is None


def test_this_machine_is_read() -> None:
    before = Reading.now()
    while sum(os.times()[:2]) < 0.1:  # ticks
        pass
    used = machine_use.used_between(before, Reading.now(), 0.5)
    assert used.cores == len(os.sched_getaffinity(0))
    assert before.processes.keys() >= {next(iter(before.processes))}
    assert next(iter(before.processes))[0] == os.getpid()
    measured = timing.measure(SameCall(lambda: sum(range(1000))), "cpu", Effort(1, 1, 0.0, 1, 0.0))
    assert measured.clocks is not None
    assert measured.clocks.core_mhz is None or min(measured.clocks.core_mhz) > 0


class _NVMLError(Exception):
    pass


def test_the_clocks_of_a_gpu_are_read_as_far_as_its_driver_tells() -> None:
    names = {name: 1 << place for place, name in enumerate(clocks.GPU_LIMITS, start=2)}
    nvml = SimpleNamespace(
        NVMLError=_NVMLError,
        NVML_CLOCK_SM=1,
        nvmlDeviceGetClockInfo=lambda handle, kind: 1755,
        nvmlDeviceGetPowerUsage=lambda handle: 412_500,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 1 | names["SwPowerCap"] | names["HwSlowdown"],
        **{f"nvmlClocksThrottleReason{name}": bit for name, bit in names.items()},
    )
    assert clocks.gpu_clocks(nvml, "handle") == Clocks(
        sm_mhz=1755, gpu_watts=412.5, gpu_limits=["SwPowerCap", "HwSlowdown"]
    )

    def refuses(*arguments: object) -> int:
        raise _NVMLError

    for name in vars(nvml):
        if name.startswith("nvmlDevice"):
            setattr(nvml, name, refuses)
    assert clocks.gpu_clocks(nvml, "handle") == Clocks()


def test_the_library_has_every_limit_that_is_asked_for() -> None:
    pynvml = pytest.importorskip("pynvml")
    assert all(hasattr(pynvml, f"nvmlClocksThrottleReason{name}") for name in clocks.GPU_LIMITS)
    assert {*disturbed_run.THROTTLED} < {*clocks.GPU_LIMITS}


def test_an_interrupted_run_keeps_what_was_read(tmp_path: Path) -> None:
    records = [record(30, BESIDE_A_LOOP, **at_mhz(3000, 3010)), record(use=None)]
    log = Log(tmp_path / "run.log.jsonl", HEADER)
    for each in records:
        log.append(each)
    log.close()
    kept = read_part(log.path).records
    assert kept == records
    assert disturbed_run.judge(kept) == disturbed_run.judge(records)


def test_the_report_tells_it_before_everything_else_and_of_a_calm_run_nothing() -> None:
    disturbed, calm = synthetic.run(DISTURBED["foreign processes"][0]), synthetic.run(run_of([]))
    (notice,) = compare([disturbed]).notices
    assert notice.startswith("This run was disturbed from 2026-01-02 12:00:30 to 12:00:35 UTC, for 4.0 s of the 46 s")
    (plain,) = compare([disturbed]).as_json()["disturbances"]
    assert plain["sentence"] == notice
    assert compare([calm]).notices == []
    assert compare([calm]).as_json()["disturbances"] == [None]
    both = compare([calm, disturbed])
    (notice,) = both.notices
    assert notice == f"{both.runs[1].label}: {plain['sentence']}"


@pytest.mark.parametrize("name", ["cpu-standard", "gpu-h100"])
def test_published_runs_that_are_older_than_the_judgement_have_no_notice(name: str) -> None:
    published = load(ROOT / "reports" / name / "run.json")
    assert all(each.machine_use is None for each in published.records)
    assert disturbed_run.judge(published.records, cores=2) is None
