"""Runs a case in this process: its record also says what it changed here, and what can be written back is."""

from harness.cases import runner
from harness.core.record import Record
from harness.core.record_text import clean_reasons
from harness.core.spec import AnySpec, Effort
from harness.measure import process_state


def run(spec: AnySpec, effort: Effort) -> Record:
    """The record of ``runner.run``, with what the case changed in this process among its findings.

    Raises:
        KeyboardInterrupt: the user's; what the case had changed is written back.
    """
    before = process_state.snapshot()
    try:
        record = runner.run(spec, effort)
    except KeyboardInterrupt:
        process_state.restore(before)
        raise
    findings = clean_reasons(process_state.findings(before, spec.device))
    if findings:
        process_state.restore(before)
    return record.model_copy(update={"findings": [*record.findings, *findings]})
