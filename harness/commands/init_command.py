"""``harness init``: writes what ``harness ab`` and a CI server need in the repository of an attention of one's own.

Nothing that exists is overwritten without ``--force``. ``pyproject.toml`` is edited as text, because its comments and
its order are the user's; what the text then means is compared with what was intended before it is written.
"""

import copy
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

FILES = Path(__file__).with_name("init_files")
PYPROJECT = "pyproject.toml"
ACTION = ".github/actions/harness-gate/action.yml"
WORKFLOW = ".github/workflows/harness-gate.yml"
GITLAB = ".gitlab/harness-gate.yml"
GITLAB_MAIN = ".gitlab-ci.yml"
INCLUDE = f"include:\n  - local: {GITLAB}\n"
PROJECT_NAME = "PROJECT_NAME"
"""Stands for the project's name in the files of CI servers."""
HEADER = re.compile(r"^[ \t]*\[[ \t]*tool[ \t]*\.[ \t]*harness[ \t]*\.[ \t]*gate[ \t]*\][^\n]*(?:\n|\Z)", re.MULTILINE)
"""The line that begins the gate's table."""
TABLE = "[tool.harness.gate]"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_REMOTE_HOST = re.compile(r"(?:[a-z+]+://)?(?:[^@/]*@)?([^/:]+)[/:]")


class InitError(ValueError):
    """A folder in which ``harness init`` cannot write: what was expected there, and what was found."""


class Server(StrEnum):
    """The CI server whose files are written."""

    github = "github"
    gitlab = "gitlab"
    none = "none"


@dataclass(frozen=True)
class Key:
    """A key of the gate's table: its value, and its lines with comments."""

    name: str
    value: list[str]
    lines: str


@dataclass(frozen=True)
class Step:
    """What is done with one file, and a sentence that says it.

    Attributes:
        path: the file, relative to the project's folder.
        done: "left" where the file exists, differs from what would be written, and is kept.
        text: what is written; None where nothing is.
    """

    path: str
    done: Literal["written", "changed", "unchanged", "left", "skipped"]
    words: str = ""
    text: str | None = None


def init(
    ci: Annotated[
        Server | None, typer.Option(help="The CI server. Default: the one that the repository's files or remote name.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what exists and differs.")] = False,
) -> None:
    """Write what harness ab and a CI server need in the repository of an attention of your own.

    Run it beside the pyproject.toml in which the attention is an entry point of harness.attentions. It writes the table
    tool.harness.gate of that file and the files of the CI server. It overwrites nothing without --force; a second run
    changes nothing.
    """
    folder = Path.cwd()
    steps = plan(folder, ci, force)
    for step in steps:
        if step.text is not None:
            _require_writable(folder / step.path)
    for step in steps:
        if step.text is not None:
            path = folder / step.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text, encoding="utf-8", newline="")
        typer.echo(f"{step.done}: {step.path}{f': {step.words}' if step.words else ''}")
    if not any(step.text is not None for step in steps):
        typer.echo("nothing was changed")
    commit = "git add -A && git commit -m 'Gate with the harness' && " if any(step.text for step in steps) else ""
    typer.echo(f"next: {commit}harness ab HEAD HEAD  # compares the commit with itself, and should pass")


def add_to(app: typer.Typer) -> None:
    """Add ``harness init``."""
    app.command()(init)


def plan(folder: Path, ci: Server | None, force: bool) -> list[Step]:
    """What ``harness init`` does in a folder; nothing is written.

    Raises:
        InitError: the folder is not in a git repository, or its ``pyproject.toml`` registers no attention.
        SettingsError: ``pyproject.toml`` is not valid.
    """
    from harness.core import git
    from harness.gate.commits import project_suites

    repository = git.run(folder, "rev-parse", "--show-toplevel")
    if not repository.ok:
        raise InitError(
            f"{folder}: expected a git repository, because harness ab compares its commits; git says: "
            f"{' '.join(repository.stderr.split())}; run git init first"
        )
    path = folder / PYPROJECT
    if not path.is_file():
        raise InitError(f"{path}: expected this file, found none; run harness init in the folder of your package")
    table = project_suites.read_toml(path)
    attentions = project_suites.attentions(path)
    if not attentions:
        raise InitError(
            f"{path}: expected the entry point of your attention, found none; add {project_suites.TABLE} with a line "
            'NAME = "module:object" for each of your attentions'
        )
    keys = [_build(folder, table, attentions)]
    if not (folder / project_suites.FOLDER).is_dir():
        keys.insert(0, _suite_options())
    steps = _pyproject_steps(path, table, keys, force)
    at_root = Path(repository.stdout.rstrip("\n")).resolve() == folder.resolve()
    server = ci or (_guessed_server(folder) if at_root else Server.none)
    if server is Server.none:
        why = "neither the files nor the remote of this repository name one" if at_root else "not at its root"
        return (
            steps
            if ci
            else [*steps, Step("files for CI", "skipped", f"{why}; --ci github or --ci gitlab writes its files")]
        )
    if not at_root:
        raise InitError(
            f"--ci {server}: expected to be at the root of the git repository, where CI servers read their files, got "
            f"{folder}; use --ci none, and write a workflow of your own that calls harness ab in this folder"
        )
    return [*steps, *_ci_steps(folder, server, _project_name(path, table), force)]


def _suite_options() -> Key:
    values = [
        "{suites}/test_attention.py",
        "{suites}/test_quality.py",
        "--attention={attentions}",
        "--seq-len=256,1024",
    ]
    return Key(
        "suite_options",
        values,
        f"""\
# What `harness ab` measures if it is called without options behind `--`. {{suites}} is the folder of the suites that
# come with the harness, {{attentions}} are the attentions that the measured commit has as entry points in this file.
suite_options = [
    {_toml(values[0])}, # time and memory of the attention alone
    {_toml(values[1])}, # its error; test_models.py and test_tasks.py are models and trainings
    {_toml(values[2])},
    {_toml(values[3])}, # also possible: --device=cuda, --dtype=bfloat16, --profile=full
]
""",
    )


def _build(folder: Path, table: Mapping[str, Any], attentions: Mapping[str, str]) -> Key:
    """How a checkout becomes importable from its top folder, with its entry points."""
    places = {_place_of_module(folder, table, name, value) for name, value in attentions.items()}
    if len(places) > 1:
        raise InitError(
            f"{folder / PYPROJECT}: expected the modules of all attentions in one folder, found them in "
            f"{' and '.join(sorted(place or 'the top folder' for place in places))}; move them, or write build in "
            f"{TABLE} yourself"
        )
    (place,) = places
    backend = _of(_of(table, "build-system"), "build-backend", "setuptools.build_meta")
    # With `packages=[]` setuptools does not search for packages. In the top folder its search fails beside any other
    # folder, such as `out`; that of another backend's project may fail in any layout.
    arguments = "" if place and str(backend).startswith("setuptools") else "packages=[]"
    commands = [
        (
            "Writes a folder *.egg-info with the entry points of this file, by which Python finds the attentions.",
            f"{{python}} -c 'from setuptools import setup; setup({arguments})' -q egg_info",
        )
    ]
    if (folder / "setup.py").is_file():
        commands = [(commands[0][0], "{python} setup.py -q egg_info")]
        commands.append(
            ("Compiles the extension modules, if there are any.", "{python} setup.py -q build_ext --inplace")
        )
    if place:
        copy_it = f'import shutil; shutil.copytree("{place}", ".", dirs_exist_ok=True)'
        commands.append(
            (f"Copies what is in {place} to where Python looks for it: the top folder.", f"{{python}} -c '{copy_it}'")
        )
    lines = "".join(f"    # {comment}\n    {_toml(command)},\n" for comment, command in commands)
    return Key(
        "build",
        [command for _, command in commands],
        "# What `harness ab` runs in the checkout of each commit before it measures; {python} is its own Python.\n"
        f"build = [\n{lines}]\n",
    )


def _place_of_module(folder: Path, table: Mapping[str, Any], name: str, value: str) -> str:
    """The folder in which the module of an attention is; empty for the project's own."""
    setuptools = _of(_of(table, "tool"), "setuptools")
    find = _of(_of(setuptools, "packages"), "find")
    where, package_dir = _of(find, "where", []), _of(_of(setuptools, "package-dir"), "", "src")
    places = ["", "src", *(where if isinstance(where, list) else []), package_dir]
    module = value.partition(":")[0].strip().partition(".")[0]
    for place in places:
        found = folder / str(place) / module
        if found.is_dir() or found.with_suffix(".py").is_file():
            return "" if str(place) in ("", ".") else str(place)
    raise InitError(
        f"{folder / PYPROJECT}: expected {module}.py or a folder {module} here or in src, because of the entry point "
        f"{name} = {json.dumps(value)}, found neither; correct the entry point, or write the module first"
    )


def _pyproject_steps(path: Path, table: Mapping[str, Any], keys: Sequence[Key], force: bool) -> list[Step]:
    """One step for the whole file, and one for each key that is left."""
    before = path.read_bytes().decode("utf-8")
    text, wanted = before.replace("\r\n", "\n"), copy.deepcopy(dict(table))
    gate = wanted.setdefault("tool", {}).setdefault("harness", {}).setdefault("gate", {})
    written, left = [], []
    for key in reversed(keys):  # each is inserted at the beginning of the table
        if gate.get(key.name) == key.value:
            continue
        if key.name in gate:
            if not force:
                left.append(key.name)
                continue
            text = _without_key(text, key.name)
        header = HEADER.search(text)
        if header is None:
            text = f"{text.rstrip()}\n\n{TABLE}\n"
        elif not header.group().endswith("\n"):
            text += "\n"
        end = HEADER.search(text).end()  # type: ignore[union-attr]  # it is there now
        text = text[:end] + key.lines + text[end:]
        gate[key.name] = key.value
        written.append(key.name)
    steps = []
    if written:
        names = " and ".join(reversed(written))
        if _parsed(text) != wanted:
            lines = "; ".join(f"{key.name} = {json.dumps(key.value)}" for key in keys if key.name in written)
            raise InitError(
                f"{path}: expected {TABLE} as a table with lines of its own, found it written in another way, which "
                f"harness init cannot edit; add to it: {lines}"
            )
        text = text.replace("\n", "\r\n") if "\r\n" in before else text
        steps.append(Step(path.name, "changed", f"{names} in {TABLE}", text))
    elif not left:
        steps.append(Step(path.name, "unchanged"))
    steps += [Step(path.name, "left", f"its {name} in {TABLE} differs; --force replaces it") for name in reversed(left)]
    return steps


def _without_key(text: str, name: str) -> str:
    """The text without the lines of a key of the gate's table, as far as it has lines of its own."""
    header = HEADER.search(text)
    start = re.compile(rf"^[ \t]*{name}[ \t]*=", re.MULTILINE).search(text, header.end()) if header else None
    if start is None:
        return text
    end = start.start()
    while end < len(text):
        end = text.find("\n", end) + 1 or len(text)
        if _parsed(text[start.start() : end]) is not None:
            return text[: start.start()] + text[end:]
    return text


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _guessed_server(folder: Path) -> Server:
    """The server of the remote's host, else that whose files are there."""
    from harness.core import git

    host = _REMOTE_HOST.match(git.run(folder, "remote", "get-url", "origin").stdout.strip())
    for server in (Server.github, Server.gitlab):
        if host and server in host.group(1).lower():
            return server
    if (folder / GITLAB_MAIN).exists():
        return Server.gitlab
    return Server.github if (folder / ".github").is_dir() else Server.none


def _ci_steps(folder: Path, server: Server, name: str, force: bool) -> list[Step]:
    if server is Server.github:
        return [
            _file_step(folder, ACTION, _template("github-action.yml", name), force),
            _file_step(folder, WORKFLOW, _template("github-workflow.yml", name), force),
        ]
    steps = [_file_step(folder, GITLAB, _template("gitlab-gate.yml", name), force)]
    main = folder / GITLAB_MAIN
    if not main.exists():
        return [*steps, Step(GITLAB_MAIN, "written", text=INCLUDE)]
    if GITLAB in main.read_text(encoding="utf-8", errors="replace"):
        return [*steps, Step(GITLAB_MAIN, "unchanged")]
    return [*steps, Step(GITLAB_MAIN, "left", f"add to its include: local: {GITLAB}")]


def _file_step(folder: Path, path: str, text: str, force: bool) -> Step:
    file = folder / path
    if not os.path.lexists(file):
        return Step(path, "written", text=text)
    if file.is_file() and file.read_text(encoding="utf-8", errors="replace") == text:
        return Step(path, "unchanged")
    return Step(path, "changed", text=text) if force else Step(path, "left", "it differs; --force replaces it")


def _template(name: str, project: str) -> str:
    return (FILES / name).read_text(encoding="utf-8").replace(PROJECT_NAME, project)


def _project_name(path: Path, table: Mapping[str, Any]) -> str:
    name = _of(_of(table, "project"), "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InitError(f"{path}: expected the name of the package as project.name, got {name!r}")
    return name


def _of(table: Any, key: str, default: object = ()) -> Any:
    """The value of a key; the default where the table does not have it, or is no table."""
    return table.get(key, default) if isinstance(table, Mapping) else default


def _toml(text: str) -> str:
    """A basic string of TOML, which for these texts is written as in JSON."""
    return json.dumps(text)


def _require_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before anything is.

    Raises:
        InitError: it is read-only, or what should be its folder is a file or is read-only.
    """
    if path.is_file():
        place = path
    else:
        place = next(parent for parent in path.parents if os.path.lexists(parent))
        if path.exists() or not place.is_dir():
            found = path if path.exists() else place
            kind = "a file" if path.exists() else "a folder"
            raise InitError(f"{path}: expected to write it, but {found} is not {kind}; move it away")
    if not os.access(place, os.W_OK):
        raise InitError(f"{path}: expected to write it, but {place} is read-only for you; nothing was written")
