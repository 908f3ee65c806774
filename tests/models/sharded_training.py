"""A program of two processes that train a sharded YOSO model on the CPU and compare it with the whole model."""

import sys
import warnings
from pathlib import Path

import torch
from model_pairs import SMALL, largest_difference, make_yoso, tokens
from torch import distributed, multiprocessing
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

IDS = tokens(2, 20, vocab_size=60)
MASK = (torch.arange(20) < torch.tensor([[13], [20]])).long()


def loss_of(model):
    torch.manual_seed(0)
    loss = model(IDS, MASK, labels=torch.tensor([0, 1])).loss
    loss.backward()
    return loss


def train(rank, store):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    for attention in ("yoso_e", "yoso"):
        options = {**SMALL, "conv_window": 3, "num_hash": 4, "attn_implementation": attention}
        whole, sharded, copied = (make_yoso("ForSequenceClassification", **options) for _ in range(3))
        for layer in sharded.yoso.encoder.layer:
            fully_shard(layer, mesh=mesh)
        fully_shard(sharded, mesh=mesh)
        losses = [loss_of(model) for model in (whole, sharded, DistributedDataParallel(copied))]
        assert largest_difference(losses[0], losses[1]) == largest_difference(losses[0], losses[2]) == 0
        for parameter, shard, copy in zip(*(m.parameters() for m in (whole, sharded, copied)), strict=True):
            assert largest_difference(parameter.grad, shard.grad.full_tensor()) < 1e-6
            assert largest_difference(parameter.grad, copy.grad) < 1e-6
        held = sum(parameter.to_local().numel() for parameter in sharded.parameters())
        total = sum(parameter.numel() for parameter in whole.parameters())
        assert held < 0.6 * total
        for model in (whole, sharded):
            torch.optim.SGD(model.parameters(), lr=0.1).step()
        assert largest_difference(loss_of(whole), loss_of(sharded)) < 1e-5
    distributed.destroy_process_group()


if __name__ == "__main__":
    # Forked, so that the packages are imported once.
    multiprocessing.start_processes(train, (Path(sys.argv[1]) / "store",), nprocs=2, start_method="fork")
