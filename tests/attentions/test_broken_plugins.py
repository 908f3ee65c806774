"""An attention that is wrong or raises gives a record with that status."""

import pytest
import wrong_attentions as wrong

from harness.cases import runner
from harness.core import registry
from harness.core.spec import Effort, OperationSpec

EFFORT = Effort(min_samples=1, max_samples=1, seconds=0.0, warmup_calls=1, warmup_seconds=0.0)
STATUSES = (
    [(plugin, {}, "incorrect") for plugin in wrong.INCORRECT]
    + [(plugin, {"padding": 0.25}, "incorrect") for plugin in wrong.INCORRECT_PADDED]
    + [(plugin, {"mode": "forward_backward"}, "incorrect") for plugin in wrong.INCORRECT_BACKWARD]
    + [(wrong.RAISES, {}, "crashed"), (wrong.plugin_of(wrong.no_gradient), {"mode": "forward_backward"}, "incorrect")]
    + [(wrong.RIGHT, {}, "ok"), (wrong.RIGHT, {"mode": "forward_backward", "padding": 0.25}, "ok")]
)


@pytest.mark.parametrize(("plugin", "changes", "status"), STATUSES, ids=[f"{p.name}-{s}" for p, _, s in STATUSES])
def test_status_of_record(plugin, changes, status):
    registry.add(plugin)
    try:
        record = runner.run(OperationSpec(attention=plugin.name, seq_len=200, heads=2, **changes), EFFORT)
    finally:
        registry.remove(plugin.name)
    assert record.status == status, record.reasons
    assert (record.timing is not None) == (status == "ok")
    assert bool(record.reasons) == (status != "ok")
