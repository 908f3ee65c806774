"""Run every operator once on small irregular shapes, under ``compute-sanitizer python FILE``."""

import sys

import torch
from yoso_cases import DTYPES, OPERATORS, SHAPES, make, on, planes_of, run

import yoso.attention  # noqa: F401  registers the operators
from yoso.ops.hashing import HASH_FAMILIES


def main(device: str) -> None:
    for shape in SHAPES[:6]:
        for dtype in DTYPES:
            case = make(shape, dtype)
            for name in OPERATORS:
                run(name, case, device)
            for family in HASH_FAMILIES:
                if family != "hadamard_authors" or shape.tau <= shape.dim:
                    x, planes = on(device, (case.key, planes_of(shape, family)))
                    torch.ops.yoso.fast_hash(x, planes, shape.num_hash, shape.tau, family)
    if device == "cuda":
        torch.cuda.synchronize()
    print("every operator ran")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "cuda")
