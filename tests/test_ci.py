"""`.ci/run` in a small repository: what it runs, in which order and where, and what it prints when a part fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = """# a library

```console
pip install -e '.[all]'   # in a checkout
make compare        # compares
make test           # all tests
make docs           # the documentation
```

```console
make nothing
```
"""
# Each target notes its name and its folder, and fails where another target has been.
MAKEFILE = """
.PHONY: compare docs check test
compare docs check:
	test ! -e made && touch made
	echo "make $@ in $(CURDIR)" >>$(LOG)
	test "$(BROKEN)" != $@
test:
	echo "make $@ in $(CURDIR)" >>$(LOG)
	@echo "1 passed in 0.01s"
.venv/.torch-stamp:
	mkdir -p .venv
	mkdir .venv/bin
	echo 'for name in pip python steepest; do eval "$$name() { echo $$name \\$$* in \\$$PWD >>$(LOG); }"; done' >.venv/bin/activate
"""
ANYONE = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script of a Linux machine")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A commit with the script, and commands that stand for the packages of the system."""
    place = tmp_path / "repository"
    (place / ".ci").mkdir(parents=True)
    (place / ".ci" / "run").write_bytes((ROOT / ".ci" / "run").read_bytes())
    (place / "README.md").write_text(README)
    (place / "Makefile").write_text(MAKEFILE)
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run(["git", *ANYONE, *words], cwd=place, check=True)
    (tmp_path / "bin").mkdir()
    for name in ("chromium", "initdb", "apt-get"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return place


def run(repository: Path, broken: str = "") -> tuple[subprocess.CompletedProcess[str], list[tuple[str, str]]]:
    """What the script printed, and what it ran in which folder."""
    log, clones = repository.parent / "log", repository.parent / "clones"
    clones.mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PYTHONPATH"))
    }
    environment |= {"PATH": f"{repository.parent / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(clones)}
    command = ["bash", str(repository / ".ci" / "run")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**environment, "LOG": str(log), "BROKEN": broken}
    )
    assert list(clones.iterdir()) == []
    lines = log.read_text().splitlines() if log.exists() else []
    return done, [(name, folder) for name, _, folder in (line.rpartition(" in ") for line in lines)]


def test_every_command_of_the_readmes_first_block_runs_in_a_clone_of_its_own_and_the_tests_come_last(
    repository: Path,
) -> None:
    (repository / "Makefile").write_text("nothing of this is committed\n")
    done, ran = run(repository)
    assert done.returncode == 0, done.stderr
    assert [name for name, _ in ran] == [
        "pip install -e .[all]",
        "python -W error tests/docs/run_page.py README.md",
        "steepest plan clip_by_global_norm(1.0) | lamb(lr=1e-3)",
        "make compare",
        "make docs",
        "make check",
        "make test",
    ]
    pip, page, plan, compare, docs, check, test = (folder for _, folder in ran)
    assert pip == page == plan and check == test
    assert len({pip, compare, docs, test, str(repository)}) == 5
    summary = done.stdout.partition(".ci/run: passed so far:\n")[2]
    times = re.findall(r"^ +\d+ s  (.*)$", summary, flags=re.MULTILINE)
    assert times == ["pip install -e '.[all]'", "make compare", "make docs", "make check"]
    assert done.stdout.splitlines()[-1] == "1 passed in 0.01s"


@pytest.mark.parametrize("broken", ["compare", "docs", "check"])
def test_a_part_that_fails_ends_the_run_with_its_name(broken: str, repository: Path) -> None:
    done, ran = run(repository, broken)
    assert done.returncode == 2
    assert re.fullmatch(
        rf"\.ci/run: FAILED with exit status 2 after \d+ s: make {broken}", done.stderr.splitlines()[-1]
    )
    assert ran[-1][0] == f"make {broken}"


def test_a_readme_without_commands_is_an_error(repository: Path) -> None:
    (repository / "README.md").write_text("# a library\n")
    subprocess.run(["git", *ANYONE, "commit", "-q", "-a", "-m", "no commands"], cwd=repository, check=True)
    done, ran = run(repository)
    assert (done.returncode, done.stderr, ran) == (1, ".ci/run: README.md has no block of commands (```console)\n", [])
