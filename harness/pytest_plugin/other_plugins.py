"""Ways to start pytest, and plugins of it, with which the harness cannot measure: each is refused in words."""

import os
from collections.abc import Mapping

import pytest

START_ONCE = "start it once, without torchrun, srun or mpirun (several processes may call harness.training.train)"
LAUNCHERS = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)
"""The variables with the number of this process and of all, as torchrun, Open MPI, other MPIs and srun set them."""


def reason_against_plugins(config: pytest.Config) -> str | None:
    """Why the plugins and their options do not allow a run; None if they do."""
    if not config.pluginmanager.hasplugin("benchmark"):
        return (
            "the harness stores what it measures with the plugin pytest-benchmark, which is switched off or not "
            "installed: leave out -p no:benchmark, or install pytest-benchmark"
        )
    distributed = config.getoption("dist", "no") != "no" or config.getoption("distload", False)
    if config.getoption("numprocesses", None) or config.getoption("tx", None) or distributed:
        return (
            "the options of xdist (-n, --tx, --dist, -d) must be left out: cases that run in parallel disturb each "
            "other's timings, and their records stay in other processes"
        )
    if hasattr(config, "workerinput"):  # the plugin is loaded by a test module, which xdist's first process never sees
        return "the tests of this suite must run without xdist (-n, --tx, --dist): cases in parallel disturb each other"
    codspeed = config.pluginmanager.hasplugin("codspeed") or config.pluginmanager.hasplugin("pytest_codspeed")
    if config.getoption("codspeed", False) or (codspeed and "CODSPEED_ENV" in os.environ):
        return (
            "pytest-codspeed replaces pytest-benchmark's fixture and cannot store what the harness measures: leave out "
            "--codspeed, and do not set its variable CODSPEED_ENV"
        )
    return None


def reason_against_launcher(environment: Mapping[str, str] = os.environ) -> str | None:
    """Why a run does not start in one of several processes that a launcher has started; None if it may."""
    for rank, size in LAUNCHERS:
        if _number(environment, size) > 1:
            return _several(f"{size}={environment[size]}, {rank}={environment.get(rank, 'not set')}")
    # In a batch script SLURM_NTASKS is the size of the allocation, and the script itself has number 0.
    if _number(environment, "SLURM_NTASKS") > 1 and _number(environment, "SLURM_PROCID") > 0:
        return _several(f"SLURM_NTASKS={environment['SLURM_NTASKS']}, SLURM_PROCID={environment['SLURM_PROCID']}")
    if _number(environment, "LOCAL_RANK") > 0:
        return _several(f"LOCAL_RANK={environment['LOCAL_RANK']}")
    return None


def _several(variables: str) -> str:
    return (
        f"a run is one process, and this is one of several ({variables}): they would time the same cases at the same "
        f"time, disturb each other and write the same files; {START_ONCE}"
    )


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    return int(value) if value.isdecimal() else 0
