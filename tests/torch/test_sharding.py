"""Sharded and replicated training in real processes over gloo, against the same training in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.multiprocessing as mp

from tests.torch import sharded_cases


def processes(world: int, names: list[str], folder: Path) -> None:
    try:
        mp.spawn(sharded_cases.run, (world, names, str(folder)), world)
    except Exception as error:
        said = [path.read_text() for path in sorted(folder.glob("failed_*.txt"))]
        pytest.fail("\n".join(said) or str(error))


@pytest.mark.parametrize("world", [2, 4])
def test_any_chain_on_any_cut_of_the_tensors_equals_the_step_on_whole_ones(world: int, tmp_path: Path) -> None:
    processes(world, ["check_chains"], tmp_path)


@pytest.mark.parametrize("world", [2, 4])
def test_a_barrier_costs_one_small_all_reduce_however_many_tensors_and_groups(world: int, tmp_path: Path) -> None:
    processes(world, ["check_counts", "check_refusals"], tmp_path)


@pytest.mark.parametrize("world", [2, 4])
def test_ddp_fsdp2_and_tensor_parallel_training_equals_training_in_one_process(world: int, tmp_path: Path) -> None:
    processes(world, ["check_ddp", "check_fsdp", "check_tensor_parallel"], tmp_path)


def test_a_run_saved_by_four_processes_goes_on_in_two(tmp_path: Path) -> None:
    processes(4, ["save_half_way"], tmp_path)
    processes(2, ["go_on"], tmp_path)
