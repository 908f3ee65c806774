"""Several processes that train together give the result of one process: torchrun on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.core import registry
from harness.core.spec import Swap, TaskSpec
from harness.training.task_models import make_model
from harness.training.train import train
from harness.training.trainer import make_trainer

ROOT = Path(__file__).parents[2]
SPEC = TaskSpec(
    attention="sdpa",
    task="needle",
    seq_len=12,
    seeds=1,
    steps=120,
    batch=32,
    train_examples=1000,
    eval_examples=101,  # odd, so the processes cannot share them evenly
    learning_rate=3e-3,
    layers=1,
    hidden_size=32,
    evaluate_with=(Swap(attention="softmax"),),
)
UNEVEN = TaskSpec(
    attention="sdpa",
    task="distant_label",
    seq_len=24,
    steps=5,
    batch=16,
    train_examples=40,  # two batches and a half
    eval_examples=8,
    learning_rate=3e-3,
    layers=1,
    hidden_size=32,
)
"""Every sequence has another number of labels."""
SCRIPT = f"""
import os, sys
from pathlib import Path
import torch
from harness.core.spec import TaskSpec
from harness.training.train import train
from tasks.test_training_processes import trained_weights

spec = TaskSpec.model_validate_json({SPEC.model_dump_json()!r})
spec = spec.model_copy(update=eval(sys.argv[1]))
result = train(spec, checkpoints=Path(sys.argv[2]), save_seconds=1)
if os.environ["RANK"] == "0":
    Path("result.json").write_text(result.model_dump_json())
weights = trained_weights("uneven")
if os.environ["RANK"] == "0":
    torch.save(weights, "weights.pt")
"""


def trained_weights(folder: str) -> dict[str, Tensor]:
    """The weights after the training of ``UNEVEN`` in this process, or in all processes of torchrun together."""
    task = registry.get_task(UNEVEN.task)
    model = make_model(UNEVEN, task, seed=0)
    examples = task.checked_dataset("train", UNEVEN.train_examples, UNEVEN.seq_len, UNEVEN.seed)
    make_trainer(UNEVEN, task, model, examples, 0, folder).train()
    return model.state_dict()


def torchrun(
    folder: Path, changes: dict[str, int], kept: str, script: str = SCRIPT
) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "script.py"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, repr(changes), kept], cwd=folder, env=environment, capture_output=True, text=True, timeout=200
    )


def test_two_processes_give_the_result_of_one(tmp_path):
    done = torchrun(tmp_path, {}, "kept")
    assert done.returncode == 0, done.stderr[-3000:]
    both = json.loads((tmp_path / "result.json").read_text())
    alone = train(SPEC)
    assert both["steps"] == alone.steps
    assert both["scores"] == pytest.approx(alone.scores, abs=0.03)
    assert alone.scores[0] > 0.3, "the model must have learned something for the comparison to mean anything"
    assert both["evaluated_with"][0]["scores"] == pytest.approx(alone.evaluated_with[0].scores, abs=0.03)
    together, weights = torch.load(tmp_path / "weights.pt"), trained_weights(str(tmp_path / "uneven"))
    largest = max((together[name] - weights[name]).abs().max().item() for name in weights)
    assert largest < 1e-6, "the loss is the mean over all labels of all processes, and no example counts twice"
    assert list((tmp_path / "kept").glob("*/seed-0/checkpoint-*/rng_state_1.pth")), "a process saved no checkpoint"


def test_a_batch_that_two_processes_cannot_share_is_an_error(tmp_path):
    done = torchrun(tmp_path, {"batch": 15}, "kept")
    assert done.returncode != 0
    assert "batch must be a multiple of the 2 processes that share it, got 15" in done.stderr


DISAGREEING = f"""
import os
from pathlib import Path
from harness.core.spec import TaskSpec
from harness.training import Diverged, trainer
from harness.training.train import train

spec = TaskSpec.model_validate_json({SPEC.model_copy(update={"steps": 6}).model_dump_json()!r})
rank = os.environ["RANK"]
said = []
try:
    train(spec, checkpoints=Path(f"own-{{rank}}"))
except ValueError as error:
    said.append(str(error))
training_step = trainer.Trainer.training_step

def nan_in_one(self, *arguments):
    loss = training_step(self, *arguments)
    return loss * float("nan") if rank == "1" and self.state.global_step == 2 else loss

trainer.Trainer.training_step = nan_in_one
try:
    train(spec, checkpoints=Path("shared"))
except Diverged as error:
    said.append(f"diverged at step {{error.step}}")
Path(f"said-{{rank}}").write_text("\\n".join(said))
"""


def test_processes_agree_on_the_folder_and_on_the_end_of_a_training_that_diverged_in_one(tmp_path):
    done = torchrun(tmp_path, {}, "kept", DISAGREEING)
    assert done.returncode == 0, done.stderr[-3000:]
    said = [(tmp_path / f"said-{rank}").read_text().splitlines() for rank in (0, 1)]
    assert said[0] == said[1]
    refused, diverged = said[0]
    assert refused.startswith("the folder of checkpoints must be shared by all 2 processes, but own-0 of rank 0 is not")
    assert diverged == "diverged at step 3"
