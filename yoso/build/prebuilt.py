"""The CPU kernels that a wheel of one platform brings, for machines without a compiler.

They are compiled with torch's C++ headers, so they fit the release of torch that they were built for, on its kind of
processor, and no other; a note beside the library says which. On that processor they choose their instruction set when
they run. torch's stable ABI would make them fit later releases as well, but up to torch 2.13 it does not suffice: the
kernels multiply matrices into their scratch memory (``at::mm_out``) below autograd in every worker thread
(``at::AutoDispatchBelowADInplaceOrView``), and it has no counterpart of either.
"""

import hashlib
import json
import platform
import shutil
from pathlib import Path

import torch

FOLDER = Path(__file__).parent.parent / "prebuilt"
"""Where a wheel has the library and its note. A source checkout has no such folder."""
LIBRARY = "yoso_cpu.so"
NOTE = "built_for.json"


def write(library: Path, source_digest: str, folder: Path) -> None:
    """Copy a library that was just built for this torch into a folder, with the note of what it fits.

    Args:
        library: the built CPU kernels.
        source_digest: of the sources that they were built from.
        folder: where the wheel will have them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(library, folder / LIBRARY)
    note = _this_torch() | {"sources": source_digest, "sha256": _digest(library)}
    (folder / NOTE).write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def is_there() -> bool:
    """Whether this installation has prebuilt kernels at all."""
    return (FOLDER / NOTE).exists()


def load(source_digest: str) -> str:
    """Load the prebuilt kernels if they fit.

    Args:
        source_digest: of the sources of this installation, which somebody may have edited.

    Returns:
        Why they are not loaded; an empty string if they are.
    """
    library = FOLDER / LIBRARY
    try:
        note = json.loads((FOLDER / NOTE).read_text(encoding="utf-8"))
        wanted = _this_torch() | {"sources": source_digest, "sha256": _digest(library)}
        if not isinstance(note, dict):
            return f"the wheel's prebuilt kernels have a damaged note {FOLDER / NOTE}: install the wheel again"
        for name, value in wanted.items():
            if note.get(name) != value:
                return f"the wheel's prebuilt kernels {_MISFITS[name].format(built=note.get(name), here=value)}"
        torch.ops.load_library(str(library))
    except (OSError, ValueError) as error:
        return f"the wheel's prebuilt kernels do not load: {error}"
    return ""


_MISFITS = {
    "torch": "are for torch {built}, and this is torch {here} (pip install torch=={built})",
    "torch_commit": "are for another build of this torch release: of commit {built}, and this is of {here}",
    "cxx11_abi": "are for a torch whose C++11 ABI is {built}, and here it is {here}",
    "machine": "are for {built} processors, and this is {here}",
    "sources": "are not of these sources, which were changed after the installation",
    "sha256": "were changed after they were built: install the wheel again",
}
"""What is said of the kernels for each fact of the note that differs here."""


def _this_torch() -> dict[str, str | bool | None]:
    """What the kernels depend on. CPU and CUDA builds of a release have one commit and one layout of C++ classes."""
    return {
        "torch": torch.__version__.partition("+")[0],
        "torch_commit": torch.version.git_version,
        "cxx11_abi": torch.compiled_with_cxx11_abi(),
        "machine": platform.machine(),
    }


def _digest(library: Path) -> str:
    with library.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
