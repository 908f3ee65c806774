"""The CI files: they are valid, and every shell step runs, with stubs for the programs that need a GPU or a server.

Stubs: ``harness`` writes the files that its options name, ``make`` and ``python3 -m venv`` log their calls, ``gh`` and
``curl`` keep the comment in a file. git, bash and the shell's tools are the real ones.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import git_project
import pytest
import yaml

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github/actions/harness-gate/action.yml"
GPU = ROOT / ".github/workflows/gpu.yml"
NIGHTLY = ROOT / ".github/workflows/nightly.yml"
TESTS = ROOT / ".github/workflows/tests.yml"
RELEASE = ROOT / ".github/workflows/release.yml"
PROJECT_CODE = r"^\s*(harness|make|python3?|pytest|\S*bin/\S+) "
"""A line of a script that runs code of the project."""
GITLAB = ROOT / "docs/ci/gitlab-ci.yml"
RELEASE_STEPS = ("Source distribution and pure wheel", "Wheel with the CPU kernels")
INIT_FILES = ROOT / "harness/commands/init_files"
PLUGIN, PLUGIN_GITLAB = INIT_FILES / "github-workflow.yml", INIT_FILES / "gitlab-gate.yml"
"""What ``harness init`` writes in the repository of an attention of one's own."""
WORKFLOWS = (GPU, NIGHTLY, TESTS, RELEASE, PLUGIN)

HARNESS = """#!/usr/bin/env bash
echo "harness $*" >> "$CALLS"
printf '%s\\n' "$@" > "$CALLS.last"
if [ "$1 $2" = "history push" ]; then git push --quiet "${!#}" "HEAD:refs/heads/harness-history"; fi
while [ $# -gt 0 ]; do
  case "$1" in
    --markdown) mkdir -p "$(dirname "$2")"; echo "<!-- harness gate -->verdict $GATE_CODE" > "$2" ;;
    --out | --junit | --json) case "$2" in *.*) mkdir -p "$(dirname "$2")"; echo x > "$2" ;; esac ;;
  esac
  shift
done
exit "${GATE_CODE:-0}"
"""
LOGGED = '#!/usr/bin/env bash\necho "$(basename "$0") $*" >> "$CALLS"\n'
PYTHON = """#!/usr/bin/env bash
if [ "$1" != -m ]; then exec "$REAL_PYTHON" "$@"; fi
echo "python3 $*" >> "$CALLS"
if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$STUBS/logged" "$3/bin/python"; fi
"""
GH = """#!/usr/bin/env bash
echo "gh $*" >> "$CALLS"
case "$*" in
  *graphql*) jq -r "${!#}" "$COMMENTS" ;;
  *"-F body=@"*) for word; do case "$word" in body=@*) cp "${word#body=@}" "$COMMENT" ;; esac; done ;;
esac
"""
CURL = """#!/usr/bin/env bash
echo "curl $*" >> "$CALLS"
case "$*" in
  *--request*) for word; do case "$word" in body@*) cp "${word#body@}" "$COMMENT" ;; esac; done ;;
  */user*) echo '{"id": 3}' ;;
  *page=1) echo '[{"id": 7, "body": "other", "author": {"id": 3}},
                  {"id": 8, "body": "<!-- harness gate -->", "author": {"id": 4}}]' ;;
  *page=2) if [ -f "$COMMENT" ]; then echo '[{"id": 41, "body": "<!-- harness gate -->x", "author": {"id": 3}}]'
           else echo '[]'; fi ;;
  *) echo '[]' ;;
esac
"""


def steps(path):
    found = yaml.safe_load(path.read_text())
    if "runs" in found:
        return {step["name"]: step for step in found["runs"]["steps"]}
    return {step.get("name", step.get("uses")): step for job in found["jobs"].values() for step in job["steps"]}


class Bench:
    """A clone with an origin, on a branch with one commit more than main, and the stubs on PATH."""

    def __init__(self, folder):
        self.stubs, self.calls, self.comment = folder / "stubs", folder / "calls", folder / "comment"
        self.stubs.mkdir()
        scripts = {"harness": HARNESS, "make": LOGGED, "logged": LOGGED, "python3": PYTHON, "gh": GH, "curl": CURL}
        for name, text in scripts.items():
            (self.stubs / name).write_text(text)
            (self.stubs / name).chmod(0o755)
        self.origin = folder / "origin.git"
        self.origin.mkdir()
        git_project.git(self.origin, "init", "--quiet", "--bare", "--initial-branch=main")
        self.project = git_project.new(folder / "project")
        git_project.git(self.project, "remote", "add", "origin", str(self.origin))
        self.base = git_project.commit(self.project, a="1", _dot_gitignore="out\n.venv\nsite\npublic")
        git_project.git(self.project, "push", "--quiet", "origin", "main")
        git_project.git(self.project, "switch", "--quiet", "-c", "feature/x")
        self.head = git_project.commit(self.project, a="2")
        for name in ("GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY"):
            (folder / name).touch()
        self.env = {
            **{name: str(folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")},
            "PATH": f"{self.stubs}:{os.environ['PATH']}", "HOME": str(folder), "CALLS": str(self.calls),
            "COMMENT": str(self.comment), "COMMENTS": str(folder / "comments"),
            "STUBS": str(self.stubs), "REAL_PYTHON": shutil.which("python3") or "",
            "GITHUB_REPOSITORY": "me/mine", "GIT_CONFIG_NOSYSTEM": "1",
        }  # fmt: skip

    def run(self, script, **env):
        # Like GitHub runs a step of `shell: bash`; GitLab's lines are joined the same way.
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        return subprocess.run(command, cwd=self.project, env=self.env | env, capture_output=True, text=True)

    def log(self):
        return self.calls.read_text()


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


GATE_ENV = {
    "BASE": "",
    "TARGET": "origin/main",
    "HEAD": "HEAD",
    "SUITE_OPTIONS": "suites --profile gpu",
    "OUT": "out/g",
}


@pytest.mark.parametrize("code", ["0", "1", "2"])
def test_the_action_measures_and_ends_with_the_gates_code(bench, code):
    step = steps(ACTION)
    done = bench.run(step["Measure both commits"]["run"], GATE_CODE=code, REPORT="https://ci/run 7", **GATE_ENV)
    assert done.returncode == 0, done.stderr
    assert f"harness ab {bench.base} HEAD --out out/g " in bench.log()
    assert "--report https://ci/run 7 -- " in bench.log()
    assert bench.log().strip().endswith("-- suites --profile gpu")
    assert Path(bench.env["GITHUB_OUTPUT"]).read_text() == f"exit-code={code}\n"
    assert f"verdict {code}" in Path(bench.env["GITHUB_STEP_SUMMARY"]).read_text()
    assert bench.run(step["End with the gate's exit code"]["run"], CODE=code).returncode == int(code)


@pytest.mark.parametrize(
    "text",
    ["suites\n--profile gpu\n-k 'a or b'\n", "suites --profile gpu -k 'a or b'", '\nsuites --profile\ngpu -k "a or b"'],
)
def test_options_of_several_lines_and_in_quotes_are_passed_as_they_are(bench, text):
    done = bench.run(steps(ACTION)["Measure both commits"]["run"], **GATE_ENV | {"SUITE_OPTIONS": text})
    assert done.returncode == 0, done.stderr
    passed = Path(bench.env["CALLS"] + ".last").read_text().splitlines()
    assert passed[passed.index("--") :] == ["--", "suites", "--profile", "gpu", "-k", "a or b"]


@pytest.mark.parametrize("text", ["", "\n"])
def test_without_options_those_of_the_project_are_measured(bench, text):
    done = bench.run(steps(ACTION)["Measure both commits"]["run"], **GATE_ENV | {"SUITE_OPTIONS": text})
    assert done.returncode == 0, done.stderr
    assert "--" not in Path(bench.env["CALLS"] + ".last").read_text().splitlines()


@pytest.mark.parametrize("text", ["suites -k 'open", "$(touch evil) `touch evil`"])
def test_options_that_are_no_words_are_refused_or_passed_and_never_run(bench, text):
    done = bench.run(steps(ACTION)["Measure both commits"]["run"], **GATE_ENV | {"SUITE_OPTIONS": text})
    assert done.returncode == (0 if "evil" in text else 2)
    assert not (bench.project / "evil").exists()


def comments(bench, *written, viewer="github-actions[bot]"):
    """What GitHub's GraphQL says of a pull request with comments of (id, account, kind of account)."""
    nodes = [
        {"databaseId": number, "body": "<!-- harness gate -->x", "author": {"__typename": kind, "login": login}}
        for number, login, kind in written
    ]
    nodes.append({"databaseId": 9, "body": "other", "author": None})
    found = {"viewer": {"login": viewer}, "repository": {"pullRequest": {"comments": {"nodes": nodes}}}}
    Path(bench.env["COMMENTS"]).write_text(json.dumps({"data": found}))


needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="no jq here: apt-get install jq")


@needs_jq
@pytest.mark.parametrize(
    ("viewer", "own"), [("github-actions[bot]", ("github-actions", "Bot")), ("me", ("me", "User"))]
)
def test_only_a_comment_of_the_tokens_own_account_is_changed(bench, viewer, own):
    comment = steps(ACTION)["Write or update the comment on the pull request"]["run"]
    (bench.project / "out" / "g").mkdir(parents=True)
    (bench.project / "out" / "g" / "gate.md").write_text("x")
    foreign = [(1, "stranger", "User"), (2, own[0], "User" if own[1] == "Bot" else "Bot")]
    for written, how in ((foreign, "POST"), ([*foreign, (41, *own), (42, *own)], "PATCH")):
        comments(bench, *written, viewer=viewer)
        done = bench.run(comment, PULL_REQUEST="5", GH_TOKEN="t", OUT="out/g")
        assert done.returncode == 0, done.stderr
        assert f"--method {how} " in bench.log()
    assert bench.log().count("comments/41 ") == bench.log().count("PATCH") == 1


@needs_jq
def test_the_comment_is_written_once_and_then_changed(bench):
    measure, comment = (steps(ACTION)[name]["run"] for name in [*steps(ACTION)][:2])
    for code, how in (("1", "POST repos/me/mine/issues/5/comments"), ("0", "PATCH repos/me/mine/issues/comments/41")):
        comments(bench, *[(41, "github-actions", "Bot")] * (code == "0"))
        bench.run(measure, GATE_CODE=code, **GATE_ENV)
        done = bench.run(comment, PULL_REQUEST="5", GH_TOKEN="t", OUT="out/g")
        assert done.returncode == 0, done.stderr
        assert bench.comment.read_text() == f"<!-- harness gate -->verdict {code}\n"
        assert f"--method {how} " in bench.log()


def test_the_badge_is_pushed_to_a_new_branch_and_to_an_existing_one(bench):
    script = steps(GPU)["Badge"]["run"]
    for code, message in (("0", "pass"), ("1", "regression"), ("2", "inconclusive"), ("2", "inconclusive")):
        done = bench.run(script, CODE=code, BRANCH="badges", NAME="gate-feature/x")
        assert done.returncode == 0, done.stderr
        badge = json.loads(git_project.git(bench.origin, "show", "badges:gate-feature-x.json"))
        assert (badge["label"], badge["message"]) == ("gate", message)
    assert git_project.git(bench.origin, "ls-tree", "--name-only", "badges") == "gate-feature-x.json"
    assert git_project.git(bench.project, "rev-parse", "HEAD") == bench.head


def test_a_badge_that_another_job_overtakes_is_pushed_on_top_of_it(bench):
    """The other job pushes at the moment of this one's push, by a hook that runs once."""
    assert bench.run(steps(GPU)["Badge"]["run"], CODE="0", BRANCH="badges", NAME="one").returncode == 0
    hook = bench.project / ".git" / "hooks" / "pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        "#!/bin/sh\nrm -f .git/hooks/pre-push\nexport GIT_INDEX_FILE=.git/other\ngit read-tree FETCH_HEAD\n"
        'blob="$(echo other | git hash-object -w --stdin)"\n'
        'git update-index --add --cacheinfo "100644,$blob,two.json"\n'
        'git push -q origin "$(git commit-tree "$(git write-tree)" -p FETCH_HEAD -m other)":refs/heads/badges\n'
    )
    hook.chmod(0o755)
    done = bench.run(steps(GPU)["Badge"]["run"], CODE="1", BRANCH="badges", NAME="one")
    assert done.returncode == 0, done.stderr
    assert git_project.git(bench.origin, "ls-tree", "--name-only", "badges").split() == ["one.json", "two.json"]
    assert "regression" in git_project.git(bench.origin, "show", "badges:one.json")


@pytest.mark.parametrize("path", [GPU, NIGHTLY, PLUGIN], ids=lambda path: path.stem)
def test_the_environment_is_made_and_on_the_path(bench, path):
    done = bench.run(steps(path)["Environment"]["run"])
    assert done.returncode == 0, done.stderr
    assert Path(bench.env["GITHUB_PATH"]).read_text().strip() == f"{bench.project}/.venv/bin"
    assert "python -m pip install" in bench.log()


def test_the_gpu_step_builds_and_tests(bench):
    assert bench.run(steps(GPU)["Build and test on the GPU"]["run"]).returncode == 0
    assert "make gpu GPU_PYTHON=.venv/bin/python" in bench.log()


def test_the_hosted_tests_run_as_on_a_developers_machine_and_with_other_releases_of_torch(bench):
    (bench.project / "constraints.txt").write_text("torch==2.13.0\nxformers==1\npytest==9\n")
    step = steps(TESTS)
    assert bench.run(step["Check"]["run"]).returncode == 0
    assert bench.run(step["One part of all tests"]["run"], PART="2/4").returncode == 0
    assert bench.log() == "make check\nmake test-part PART=2/4\n"
    constraints = bench.project / "constraints-here.txt"
    for name, left in (
        ("Quick tests with this torch", "torch==2.11.0\nxformers==1\npytest==9\n"),
        ("Quick tests with torch's nightly", "pytest==9\n"),
    ):
        done = bench.run(step[name]["run"], TORCH="2.11.0", TORCH_NIGHTLY_INDEX="an index")
        assert done.returncode == 0, done.stderr
        assert constraints.read_text() == left
        assert bench.log().endswith("python -m pytest tests --check -q -n 2 --dist worksteal\n")


def test_a_release_is_built_if_the_tag_is_the_version_and_the_changelog_has_it(bench):
    git_project.commit(
        bench.project, pyproject_dot_toml='[project]\nversion = "1.2.3"\n', CHANGELOG_dot_md="## 1.2.3\n"
    )
    source, platform = (steps(RELEASE)[name]["run"] for name in RELEASE_STEPS)
    for kind, name in (("tag", "v1.2.3"), ("branch", "main")):
        done = bench.run(source, REF_TYPE=kind, REF_NAME=name)
        assert done.returncode == 0, done.stderr
        assert bench.log().endswith("python -m build --outdir dist\n")
    done = bench.run(source, REF_TYPE="tag", REF_NAME="v1.2.4")
    assert done.returncode == 1
    assert "the tag is v1.2.4 and pyproject.toml has version 1.2.3" in done.stderr
    (bench.project / "CHANGELOG.md").write_text("## 1.2.2\n")
    done = bench.run(source, REF_TYPE="tag", REF_NAME="v1.2.3")
    assert done.returncode == 1
    assert "CHANGELOG.md has no heading '## 1.2.3'" in done.stderr
    assert bench.run(platform).returncode == 0
    assert bench.log().endswith("python -m cibuildwheel --output-dir dist\n")


def test_only_the_job_that_publishes_has_the_token_for_it_and_it_runs_no_script():
    found = yaml.safe_load(RELEASE.read_text())["jobs"]
    publish = found.pop("publish")
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["if"] == "github.event_name == 'push'"
    assert not any("run" in step for step in publish["steps"])
    assert set(publish["needs"]) == set(found)


def test_the_same_versions_are_named_everywhere():
    """pyproject.toml has the lowest torch, constraints.txt the versions that the project is developed with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = dict(re.findall(r"^([\w-]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    (lowest,) = [line.removeprefix("torch>=") for line in project["project"]["dependencies"] if "torch>=" in line]
    matrix = yaml.safe_load(TESTS.read_text())["jobs"]["versions"]["strategy"]["matrix"]
    assert matrix["torch"] == [f"{lowest}.0", pinned["torch"]]
    assert project["tool"]["cibuildwheel"]["test-requires"] == [f"torch=={pinned['torch']}"]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["rev"] for hook in hooks] == [f"v{pinned[name]}" for name in ("ruff", "clang-format")]
    version = project["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"\n## {version}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_the_nightly_run_is_published_with_failed_cases_and_fails_without_a_run(bench):
    step = steps(NIGHTLY)
    done = bench.run(step["Measure"]["run"], PROFILE="full", GATE_CODE="1")
    assert done.returncode == 0, done.stderr
    for name in ("History", "Pages"):
        done = bench.run(step[name]["run"], BRANCH="harness-history")
        assert done.returncode == 0, done.stderr
    done = bench.run(step["Push the history"]["run"], BRANCH="harness-history")
    assert done.returncode == 0, done.stderr
    assert git_project.git(bench.origin, "rev-parse", "harness-history") == bench.head
    for words in ("run --profile full", "history push", "history pull", "report out/nightly.json", "history plot"):
        assert words in bench.log()
    shutil.rmtree(bench.project / "out")
    (bench.stubs / "harness").write_text("#!/bin/sh\nexit 1")
    assert bench.run(step["Measure"]["run"], PROFILE="full").returncode != 0


def run_gitlab(bench, job, path=GITLAB, **more):
    found = yaml.safe_load(path.read_text())
    before = found[job].get("before_script", found.get("default", {}).get("before_script"))
    env = {
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main", "CI_API_V4_URL": "http://x/api/v4", "CI_PROJECT_ID": "3",
        "CI_MERGE_REQUEST_IID": "5", "HARNESS_TOKEN": "t", "HARNESS_PUSH_TOKEN": "secret", "CI_SERVER_HOST": "x",
        "CI_PROJECT_PATH": "me/mine",
    }  # fmt: skip
    return bench.run("\n".join([*before, *found[job]["script"]]), **env | more)


@pytest.mark.parametrize(
    ("path", "jobs"),
    [(GITLAB, ("gate", "comment")), (PLUGIN_GITLAB, ("harness-gate", "harness-comment"))],
    ids=["ours", "plugin"],
)
def test_gitlabs_gate_comments_once_and_changes_only_its_own_comment(bench, path, jobs):
    for code in ("1", "0"):
        done = run_gitlab(bench, jobs[0], path, GATE_CODE=code)
        assert done.returncode == int(code), done.stderr
        done = run_gitlab(bench, jobs[1], path)
        assert done.returncode == 0, done.stderr
    log = bench.log()
    assert f"harness ab {bench.base} HEAD" in log
    assert log.count("--request POST") == log.count("--request PUT") == 1
    assert "notes/41" in log
    assert bench.comment.read_text() == "<!-- harness gate -->verdict 0\n"


def test_gitlabs_history_is_pushed_and_no_token_stays_in_a_file(bench):
    done = run_gitlab(bench, "pages")
    assert done.returncode == 0, done.stderr
    assert "history push out/nightly.json" in bench.log()
    # git sends "https://harness@x/me/mine.git" to the bare repository instead.
    git_project.git(bench.project, "config", f"url.{bench.origin}.insteadOf", "https://harness@x/me/mine.git")
    done = run_gitlab(bench, "history", TMPDIR=str(bench.stubs))
    assert done.returncode == 0, done.stderr
    assert git_project.git(bench.origin, "rev-parse", "harness-history") == bench.head
    files = [path for folder in (bench.project, bench.stubs) for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret" in path.read_bytes()]
    (askpass,) = bench.stubs.glob("tmp.*")
    asked = subprocess.run(
        [askpass, "Password: "], env={"HARNESS_PUSH_TOKEN": "secret"}, capture_output=True, text=True
    )
    assert asked.stdout == "secret\n"


def test_every_action_is_pinned_to_a_commit():
    for path in (ACTION, *WORKFLOWS):
        for line in path.read_text().splitlines():
            if "uses: " in line and "uses: ./" not in line:
                assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_a_job_that_runs_code_of_the_project_has_no_token_that_can_write():
    jobs = {"gate", "measure", "check", "full", "versions", "nightly-torch", "source", "platform"}
    for path in WORKFLOWS:
        found = yaml.safe_load(path.read_text())
        assert set(found["permissions"].values()) == {"read"}
        for name, job in found["jobs"].items():
            scripts = "\n".join(step.get("run", "") for step in job["steps"])
            runs_project = bool(re.search(PROJECT_CODE, scripts, re.MULTILINE))
            if runs_project:
                assert "permissions" not in job, name
            assert runs_project == (name in jobs)
    for path in (GPU, PLUGIN):
        gate = yaml.safe_load(path.read_text())["jobs"]["gate"]["steps"]
        assert gate[0]["with"]["persist-credentials"] is False
        assert all("token" not in step.get("with", {}) and "pull-request" not in step.get("with", {}) for step in gate)


@pytest.mark.parametrize("path", [ACTION, *WORKFLOWS], ids=lambda path: path.stem)
def test_no_script_contains_an_expression(path):
    """The value of an expression inside a script would be run as shell code; the environment passes it safely."""
    for step in steps(path).values():
        assert "${{" not in step.get("run", "")


def test_every_shell_step_is_run_by_a_test_of_this_file():
    here = Path(__file__).read_text()
    for path in (ACTION, *WORKFLOWS):
        for name, step in steps(path).items():
            assert "run" not in step or f'"{name}"' in here or name == "Write or update the comment on the pull request"


def test_the_workflow_passes_only_inputs_that_the_action_has():
    inputs = yaml.safe_load(ACTION.read_text())["inputs"]
    for path in (GPU, PLUGIN):
        for step in ("Gate against the merge base", "Comment"):
            assert set(steps(path)[step]["with"]) <= set(inputs)
    used = set(re.findall(r"inputs\.([\w-]+)", ACTION.read_text()))
    assert used == set(inputs)


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        *[("github-workflows", path) for path in WORKFLOWS],
        ("github-actions", ACTION),
        ("gitlab-ci", GITLAB),
        ("gitlab-ci", PLUGIN_GITLAB),
        ("citation-file-format", ROOT / "CITATION.cff"),
        ("github-issue-forms", ROOT / ".github/ISSUE_TEMPLATE/bug.yml"),
        ("github-issue-forms", ROOT / ".github/ISSUE_TEMPLATE/attention.yml"),
        ("github-issue-config", ROOT / ".github/ISSUE_TEMPLATE/config.yml"),
    ],
    ids=lambda value: getattr(value, "stem", value),
)
def test_the_files_conform_to_the_schemas_of_the_ci_servers(schema, path):
    """The schemas are those that come with check-jsonschema."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_project_gets_the_same_action_and_the_same_comment_on_gitlab_as_this_one():
    assert (INIT_FILES / "github-action.yml").read_text() == ACTION.read_text()
    ours, theirs = yaml.safe_load(GITLAB.read_text()), yaml.safe_load(PLUGIN_GITLAB.read_text())
    assert theirs["harness-comment"]["script"] == ours["comment"]["script"]
    assert "default" not in theirs  # it would apply to all jobs of the project that includes the file
