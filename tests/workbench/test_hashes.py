"""A workload's hash: the same work has the same, other work another, and nobody changes the one without the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from steepest.workbench.workload import BUILT_IN, find

ROOT = Path(__file__).resolve().parents[2]

# By workload: its hash, and the loss of the first step of seed 0. Where the loss changes the work is another, so the hash must
# change with it: by the fact that changed, or by what `about` says.
HASHES = {
    "digits-mlp": ("f320134a8f1ed491", 2.5921),
    "quadratics": ("c82653649025c4db", 1),
    "quadratics-ill-conditioned": ("ad033c288c057571", 1),
    "quadratics-noisy": ("9ef823279f93a169", 1),
    "mnist-cnn": ("c462d7a1b6770835", 2.29834),
    "mnist-cnn-large-batch": ("56e687d9e2cbb9d8", 2.30697),
    "unicode-bow": ("154caca2f56e5a0e", 3.0473),
    "unicode-bow-sparse": ("4c9a92f65fe4ba81", 3.0473),
    "rnn-memory": ("ae27926e58e6318c", 0.839112),
    "rnn-memory-order": ("81b3ae1d00deedae", 1.35542),
    "char-gpt": ("1ceb8113ad458e22", 4.13039),
    "char-gpt-post-norm": ("e6558f3a3fc1e8fd", 4.15412),
    "autoencoder": ("95f9578d5d48ec8d", 0.693334),
    "diamonds": ("5f8b82e55dc4329d", 0.963854),
    "diamonds-large-batch": ("b644bb81c9915aec", 0.954138),
}  # fmt: skip


def test_every_workload_has_a_hash_of_its_own() -> None:
    assert HASHES.keys() == BUILT_IN.keys()
    assert len({digest for digest, _ in HASHES.values()}) == len(HASHES)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_hash_stands_for_the_work(name: str) -> None:
    digest, loss = HASHES[name]
    work = find(name)
    assert (work.digest, work.start(0).gradients(0)[0]) == (digest, pytest.approx(loss, rel=1e-4))
    assert work.source == "generated" or len(work.data) == 64
    assert work.batch or work.metric == "gap"


def test_every_fact_that_makes_the_work_is_in_its_hash() -> None:
    work = find("digits-mlp")
    others = {
        "about": "", "data": "", "split_seed": 1, "batch": 1, "steps": 1, "metric": "x", "higher_is_better": True, "failed": 1.0,
        "target": 1.0,
    }  # fmt: skip
    changed = [replace(work, **{name: value}).digest for name, value in others.items()]
    assert len({work.digest, *changed}) == len(others) + 1
    assert replace(work, seconds=9.0, rates={}, source="").digest == work.digest


def test_the_hash_of_ones_own_workload_changes_with_its_file_and_not_with_its_place(tmp_path: Path) -> None:
    text = (ROOT / "examples" / "own_workload.py").read_text(encoding="utf-8")
    digests = []
    for name, content in (("a.py", text), ("b.py", text), ("c.py", text + "# another\n")):
        (tmp_path / name).write_text(content, encoding="utf-8")
        digests.append(find(f"{tmp_path / name}:circles").digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_workload_that_was_typed_in_has_the_hash_of_its_facts() -> None:
    namespace: dict[str, object] = {}
    exec("def start(seed): ...", namespace)
    typed = replace(find("quadratics"), name="mine", start=namespace["start"])
    assert typed.digest == find("quadratics").digest
