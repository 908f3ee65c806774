"""Builds the kernels of YOSO's authors from a clone of their repository, for the attention ``transformers_yoso``.

git clone https://github.com/mlpen/YOSO
python tests/gpu/authors_kernels.py YOSO out/authors
PYTHONPATH=out/authors make gpu
"""

import sys
from pathlib import Path

from torch.utils import cpp_extension

NAME = "fast_lsh_cumulation"
FOLDER = "encoders/backbones/efficient_attentions/yoso/yoso_v1/cuda"
SOURCES = (f"{NAME}_torch.cpp", f"{NAME}.cu", f"{NAME}_cuda.cu")


def main() -> None:
    """Leave the module in the second argument's folder."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sources = [Path(sys.argv[1]) / FOLDER / name for name in SOURCES]
    missing = [str(path) for path in sources if not path.exists()]
    if missing:
        sys.exit(f"no {', '.join(missing)}: the first argument must be a clone of https://github.com/mlpen/YOSO")
    out = Path(sys.argv[2]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    cpp_extension.load(NAME, [str(path) for path in sources], build_directory=str(out), is_python_module=False)
    print(f"put it on the path: PYTHONPATH={out}")


if __name__ == "__main__":
    main()
