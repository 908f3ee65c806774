"""Whether a file can be written, which is asked before minutes of measurements."""

from pathlib import Path


def try_to_write(path: Path) -> None:
    """Make the folder of a file, and see whether the file can be written; one that exists keeps its content.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    existed = path.exists()
    with path.open("ab"):
        pass
    if not existed:
        path.unlink()


def reason_against(option: str, path: Path, file: Path | None = None) -> str | None:
    """Why what an option names cannot be written, in one line; None if it can.

    Args:
        option: as the user writes it.
        path: what the option names.
        file: the file that will be written, where the option names its folder.
    """
    kind = "file" if file is None else "folder"
    try:
        try_to_write(file or path)
    except OSError as error:
        is_no_folder = isinstance(error, FileExistsError | NotADirectoryError)
        why = f"{(file or path).parent} is no folder" if is_no_folder else error.strerror
        return f"{option} must be a {kind} that can be written, got {path}: {why}; choose another path"
    return None
