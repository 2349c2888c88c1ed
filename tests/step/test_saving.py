"""State files of both formats: names, versions, sizes, damage, full disks, kills."""

from __future__ import annotations

import contextlib
import json
import random
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steepest.numpy as opt
from steepest.step import saving

SUFFIXES = pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
DATA = Path(__file__).parents[1] / "data"


def made(names: tuple[str, ...] = ("w", "a/b", ""), seed: int | None = None) -> opt.Optimizer:
    params: dict[str, Any] = dict(zip(names, (np.zeros((2, 3)), np.zeros(5, np.float32), np.array(0.0)), strict=False))
    optimizer = opt.NAdam(params, lr=0.5, engine="arrays")
    if seed is not None:
        rng = np.random.default_rng(seed)
        for _ in range(2):
            optimizer.step({name: np.asarray(rng.normal(size=p.shape), p.dtype) for name, p in params.items()})
    return optimizer


def snapshot(optimizer: opt.Optimizer) -> Any:
    state = optimizer.state_dict()
    arrays = {
        n: {k: (np.asarray(v).dtype.str, np.asarray(v).tobytes()) for k, v in s.items()}
        for n, s in state["state"].items()
    }
    return arrays, state["param_groups"], state["steps"]


def refused(path: Path, message: str = "") -> str:
    """The message with which a file is refused, after which nothing has changed."""
    optimizer = made(seed=2)
    before = snapshot(optimizer)
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        optimizer.load(path)
    assert snapshot(optimizer) == before and message in str(caught.value)
    return str(caught.value)


# ---- names


NAMES = [
    "\0", "a\0b", "\ud800", "n" * 70_000, "a/b", "a/b/exp_avg", "../../etc/passwd", "/", "..", "steepest", "0", "1.npy",
    "__metadata__", "file", "allow_pickle", "format", "é", "e\u0301", "\u202e", "a\nb", "😀", " ", "",
]  # fmt: skip


@SUFFIXES
def test_parameters_of_any_name_are_saved_and_found_again(suffix: str, tmp_path: Path) -> None:
    def optimizer() -> opt.Optimizer:
        return opt.Adam({name: np.zeros(2) for name in NAMES}, lr=0.1, engine="arrays")

    one, other, path = optimizer(), optimizer(), tmp_path / f"state{suffix}"
    one.step({name: np.full(2, float(number)) for number, name in enumerate(NAMES)})
    one.save(path)
    other.load(path)
    assert snapshot(other) == snapshot(one)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@SUFFIXES
def test_a_file_may_have_the_longest_name(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / ("n" * (255 - len(suffix)) + suffix)
    made(seed=1).save(path)
    other = made()
    other.load(path)
    assert snapshot(other) == snapshot(made(seed=1))


# ---- formats


@SUFFIXES
def test_a_file_of_the_first_format_is_loaded(suffix: str) -> None:
    params = {"w": np.ones(3), "a/b": np.ones((2, 2), np.float32), "": np.array(1.0)}
    optimizer = opt.NAdam(params, engine="arrays")
    optimizer.load(DATA / f"state-format-1{suffix}")
    assert optimizer.steps == 2 and optimizer.param_groups[0]["betas"] == (0.5, 0.75)
    for name, param in params.items():
        state = optimizer.state[name]
        assert (state["step"], state["mu_product"]) == (2.0, 0.0625)
        np.testing.assert_array_equal(state["exp_avg"], np.full_like(param, 1.25), strict=True)
        np.testing.assert_array_equal(state["exp_avg_sq"], np.full_like(param, 1.1875), strict=True)


@SUFFIXES
def test_a_file_of_a_later_format_says_what_to_do(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"state{suffix}"
    with monkeypatch.context() as later:
        later.setattr(saving, "FORMAT", 3)
        made(seed=1).save(path)
    assert refused(path) == (
        f"load: {path} has format 3, and this version of steepest reads formats up to 2. "
        f"Update steepest: pip install -U steepest."
    )


def test_both_formats_are_read_by_the_packages_that_own_them(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    optimizer = made(seed=1)
    optimizer.save(tmp_path / "s.npz")
    optimizer.save(tmp_path / "s.safetensors")
    with np.load(tmp_path / "s.npz") as arrays, safetensors.safe_open(tmp_path / "s.safetensors", "numpy") as file:
        meta = json.loads(arrays["steepest"].tobytes())
        assert json.loads(file.metadata()["steepest"]) == meta
        assert {*arrays.files} == {"steepest", *file.keys()}
        for number, (name, kind, shape, _) in enumerate(meta["arrays"]):
            parameter, _, state = name.rpartition("/")
            wanted = optimizer.state[parameter][state]
            assert (kind, shape) == (str(wanted.dtype), [*wanted.shape])
            np.testing.assert_array_equal(arrays[str(number)], wanted, strict=True)
            np.testing.assert_array_equal(file.get_tensor(str(number)), wanted, strict=True)


def test_safetensors_files_need_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    made(seed=1).save(tmp_path / "s.safetensors")
    other = made()
    other.load(tmp_path / "s.safetensors")
    assert snapshot(other) == snapshot(made(seed=1))


# ---- damage


def loaded(path: Path, content: bytes) -> bool:
    """Whether damaged content is loaded, and then as what was saved; refused with the path and nothing changed otherwise."""
    path.write_bytes(content)
    optimizer = made()
    try:
        optimizer.load(path)
    except ValueError as error:
        assert str(path) in str(error) and snapshot(optimizer) == snapshot(made())
        return False
    assert snapshot(optimizer) == snapshot(made(seed=1))
    return True


@SUFFIXES
def test_a_damaged_file_is_refused_or_gives_the_very_values(suffix: str, tmp_path: Path) -> None:
    path, rng = tmp_path / f"state{suffix}", random.Random(0)
    made(seed=1).save(path)
    content = path.read_bytes()
    assert not any(loaded(path, content[:length]) for length in range(0, len(content), 29))
    flips = [
        loaded(path, content[:i] + bytes([content[i] ^ 1 << rng.randrange(8)]) + content[i + 1 :])
        for i in range(0, len(content), 7)
    ]
    if suffix == ".safetensors":
        assert not any(flips)
    else:  # a zip file has times, attributes and version numbers that belong to no value
        assert sum(flips) < len(flips) / 4
    junk = [loaded(path, content[:i] + rng.randbytes(16) + content[i + 16 :]) for i in range(0, len(content) - 16, 67)]
    assert sum(junk) < len(junk) / 4


def test_a_flipped_bit_in_the_data_of_safetensors_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    made(seed=1).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "array 5 is damaged" in refused(path)


@pytest.mark.parametrize(
    "content", [b"", b"junk" * 99, b"\xff" * 64, b"[]", struct.pack("<Q", 2**63), struct.pack("<Q", 2) + b"[]"]
)
@SUFFIXES
def test_a_file_that_is_something_else_is_refused_by_its_path(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"state{suffix}"
    path.write_bytes(content)
    refused(path, "isn't a state file of steepest (")


def test_arrays_and_tensors_of_others_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", weight=np.ones(3))
    refused(tmp_path / "s.npz", "isn't a state file of steepest (")
    np.savez(tmp_path / "o.npz", steepest=np.array([None]), allow_pickle=True)
    refused(tmp_path / "o.npz", "it holds Python objects")
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "s.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    refused(tmp_path / "s.safetensors", "isn't a state file of steepest (")


# ---- sizes


def quick(path: Path, message: str) -> None:
    tracemalloc.start()
    began = time.perf_counter()
    refused(path, message)
    seconds, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 2 and peak < 20e6


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("w/exp_avg.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (21_000_000,)})
        for _ in range(200):
            member.write(bytes(1_000_000))
    assert path.stat().st_size < 1e6
    quick(path, "'w/exp_avg.npy' is compressed")


@SUFFIXES
def test_the_size_of_an_array_is_compared_before_its_data_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"large{suffix}"
    large = opt.NAdam({"w": np.zeros(1_000_000), "a/b": np.zeros(5, np.float32), "": np.array(0.0)}, engine="arrays")
    large.step({"w": np.ones(1_000_000), "a/b": np.ones(5, np.float32), "": np.array(1.0)})
    large.save(path)
    optimizer = made(seed=2)
    tracemalloc.start()
    with pytest.raises(
        ValueError, match=re.escape("exp_avg of 'w' must be float64[2, 3], got float64[1000000].")
    ) as caught:
        optimizer.load(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert caught.value.__notes__ == [f"while loading {path}"]


def test_lengths_that_lie_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    path.write_bytes(struct.pack("<Q", 10**12) + b"{}")
    quick(path, "its header has 1000000000000 bytes, the file has 10")
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive, archive.open("steepest.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (10**12,)})
    quick(tmp_path / "s.npz", "isn't a state file of steepest (")


# ---- disks and kills


@contextlib.contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """As on a disk that is full: no file grows beyond so many bytes."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@SUFFIXES
@pytest.mark.parametrize("size", [0, 100, 1000])
def test_a_full_disk_is_an_oserror_and_leaves_the_old_file(size: int, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"state{suffix}"
    made(seed=1).save(path)
    before = path.read_bytes()
    with files_up_to(size), pytest.raises(OSError, match="File too large"):
        made(seed=2).save(path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


@SUFFIXES
def test_a_process_killed_while_it_saves_leaves_a_file_that_loads(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    script = """if True:
        import sys
        import numpy as np, steepest.numpy as opt
        w = np.zeros(200_000)
        optimizer = opt.SGD([w], momentum=1.0, engine="arrays")
        while True:
            optimizer.step([np.ones_like(w)])
            optimizer.save(sys.argv[1])
            print(optimizer.steps, flush=True)
    """
    path, wait = tmp_path / f"state{suffix}", random.Random(0)
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as saver:
            assert saver.stdout is not None
            for _ in range(2):
                saver.stdout.readline()
            time.sleep(wait.random() * 0.01)
            saver.kill()
        optimizer = opt.SGD([np.zeros(200_000)], momentum=1.0, engine="arrays")
        optimizer.load(path)
        assert optimizer.steps >= 2 and np.all(optimizer.state["0"]["momentum_buffer"] == optimizer.steps)
        assert len(list(tmp_path.iterdir())) <= 2
    optimizer.save(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
