"""From what the user passes to what engines take: parameters become tensors, gradients are checked against them.

Everything is checked before anything is changed: kinds, shapes, types, writability, and memory that two parameters share.
Knows NumPy arrays and no framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from steepest.engines.tensors import Tensor

__all__ = ["Arrays", "check_gradients", "check_memory", "listed_gradients", "overlaps_itself", "tensors_of"]

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = Sequence[Array] | Mapping[str, Array]


def tensors_of(what: str, groups: Sequence[Arrays]) -> list[list[Tensor]]:
    """One tensor per parameter, group by group; names are the mappings' keys, or positions over all groups."""
    made: list[list[Tensor]] = []
    count = 0
    names: set[str] = set()
    for group in groups:
        if isinstance(group, np.ndarray) or not isinstance(group, (Sequence, Mapping)):
            raise TypeError(
                f"{what}: params must be a list or a dict of arrays, got {_kind(group)}. Write [array] for one."
            )
        if not len(group):
            raise ValueError(f"{what}: params must have at least one array, got none.")
        pairs = (
            list(group.items()) if isinstance(group, Mapping) else [(str(count + i), a) for i, a in enumerate(group)]
        )
        tensors = []
        for name, array in pairs:
            if not isinstance(name, str):
                raise TypeError(f"{what}: the name of a parameter must be a string, got {name!r}.")
            if name in names:
                raise ValueError(f"{what}: parameter {name!r} is named twice. Names are unique over all groups.")
            names.add(name)
            _check_parameter(what, name, array)
            tensors.append(Tensor(name, count, {"param": array}))
            count += 1
        made.append(tensors)
    check_memory(what, [t for tensors in made for t in tensors])
    return made


def _check_parameter(what: str, name: str, array: object) -> None:
    if not isinstance(array, np.ndarray):
        cure = _cure(array, "numpy.array(param)")
        raise TypeError(
            f"{what}: parameter {name!r} must be a NumPy array, which is changed in place, got {_kind(array)}.{cure}"
        )
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8) or not array.dtype.isnative:
        raise TypeError(f"{what}: parameter {name!r} must have dtype float32 or float64, got {array.dtype}.")
    if not array.flags.writeable:
        raise ValueError(
            f"{what}: parameter {name!r} must be writable, got a read-only array. Copy it: numpy.array(param)."
        )
    if array.size > 1 and any(s == 0 and n > 1 for s, n in zip(array.strides, array.shape, strict=True)):
        raise ValueError(f"{what}: parameter {name!r} repeats elements (stride 0). Copy it: numpy.array(param).")
    if overlaps_itself(array.shape, array.strides, array.itemsize):
        raise ValueError(
            f"{what}: parameter {name!r} must have memory of its own for each element, got strides {array.strides}. "
            f"Copy it: numpy.array(param)."
        )


def overlaps_itself(shape: Sequence[int], strides: Sequence[int], itemsize: int = 1) -> bool:
    """Whether two elements share memory; ``strides`` and ``itemsize`` in one unit, bytes or elements."""
    steps = sorted((abs(stride), length) for stride, length in zip(strides, shape, strict=True) if length > 1)
    reach = itemsize
    for stride, length in steps:
        if stride < reach:
            break
        reach += (length - 1) * stride
    else:
        return False
    offsets = np.zeros(1 if all(shape) else 0, dtype=np.int64)
    for stride, length in steps:
        offsets = np.add.outer(offsets, stride * np.arange(length)).ravel()
    offsets.sort()
    return bool((np.diff(offsets) < itemsize).any())


def check_memory(what: str, tensors: Sequence[Tensor]) -> None:
    """Refuse two parameters that share memory: each would be updated twice."""
    seen: dict[int, str] = {}
    ranges = []
    for t in tensors:
        if id(t.param) in seen:
            raise ValueError(
                f"{what}: parameters {seen[id(t.param)]!r} and {t.name!r} are the same array. Pass it once."
            )
        seen[id(t.param)] = t.name
        if t.param.size:
            ranges.append((*np.lib.array_utils.byte_bounds(t.param), t))
    ranges.sort(key=lambda r: r[:2])
    reach: list[Any] = []
    for low, high, t in ranges:
        reach = [(end, other) for end, other in reach if end > low]
        for _, other in reach:
            if np.shares_memory(other.param, t.param):
                raise ValueError(
                    f"{what}: parameters {other.name!r} and {t.name!r} share memory. Pass the whole array, or copy one of them."
                )
        reach.append((high, t))


def check_gradients(what: str, tensors: Sequence[Tensor], grads: object) -> list[Array | None]:
    """The gradients in the parameters' order, in the parameters' layout; None where there is none.

    A gradient of another layout, or one that shares memory with a parameter, is copied; it is never changed.
    """
    listed = listed_gradients(what, tensors, grads)
    for t, g in zip(tensors, listed, strict=True):
        if g is not None:
            _check_gradient(what, t, g)
    present = [i for i, g in enumerate(listed) if g is not None]
    touching = _touching([listed[i] for i in present], [t.param for t in tensors])
    found: list[Array | None] = list(listed)
    for i, touches in zip(present, touching, strict=True):
        grad, param = listed[i], tensors[i].param
        if grad.strides != param.strides or not grad.flags.aligned or touches:
            found[i] = np.empty_like(param)
            found[i][...] = grad  # type: ignore[index]  # it has just been made
    return found


def _touching(arrays: Sequence[Array], others: Sequence[Array]) -> list[bool]:
    """Which arrays may share memory with any of the others, by where they begin and end."""
    starts, ends = np.array([_bounds(a) for a in others if a.size], dtype=np.int64).reshape(-1, 2).T
    order = np.argsort(starts)
    starts, furthest = starts[order], np.maximum.accumulate(ends[order])
    lows, highs = np.array([_bounds(a) for a in arrays], dtype=np.int64).reshape(-1, 2).T
    before = np.searchsorted(starts, highs, side="left")
    touching: list[bool] = ((before > 0) & (np.append(furthest, 0)[before - 1] > lows) & (highs > lows)).tolist()
    return touching


def _bounds(array: Array) -> tuple[int, int]:
    if array.flags.c_contiguous:
        start = array.ctypes.data
        return start, start + array.nbytes
    low, high = np.lib.array_utils.byte_bounds(array)
    return low, high if array.size else low


def listed_gradients(what: str, tensors: Sequence[Tensor], grads: object) -> Sequence[Any]:
    """Gradients as a list in the parameters' order, from a list or a mapping by name."""
    if isinstance(grads, Mapping):
        known = {t.name for t in tensors}
        unknown = [name for name in grads if name not in known]
        if unknown:
            raise ValueError(
                f"{what}: grads has {unknown[0]!r}, which isn't a parameter. Known: {', '.join(sorted(known))}."
            )
        missing = [t.name for t in tensors if t.name not in grads]
        if missing:
            raise ValueError(f"{what}: grads has no {missing[0]!r}. Pass None for a parameter without a gradient.")
        return [grads[t.name] for t in tensors]
    if isinstance(grads, (str, np.ndarray)) or not isinstance(grads, Sequence):
        raise TypeError(f"{what}: grads must be a list or a dict of arrays, like params, got {_kind(grads)}.")
    if len(grads) != len(tensors):
        raise ValueError(f"{what}: grads must have one array for each of {len(tensors)} parameters, got {len(grads)}.")
    return grads if isinstance(grads, (list, tuple)) else list(grads)  # one that makes its arrays makes them once


def _check_gradient(what: str, tensor: Tensor, grad: object) -> None:
    param: Array = tensor.param
    if not isinstance(grad, np.ndarray):
        cure = _cure(grad, "numpy.asarray(grad)")
        raise TypeError(
            f"{what}: the gradient of {tensor.name!r} must be a NumPy array or None, got {_kind(grad)}.{cure}"
        )
    if grad.shape != param.shape:
        raise ValueError(
            f"{what}: the gradient of {tensor.name!r} must have the parameter's shape, {param.shape}, got {grad.shape}."
        )
    if grad.dtype != param.dtype:
        raise TypeError(
            f"{what}: the gradient of {tensor.name!r} must have the parameter's dtype, {param.dtype}, got {grad.dtype}. "
            f"Convert it: grad.astype({param.dtype})."
        )


def _cure(value: object, conversion: str) -> str:
    """What to do with another library's array."""
    if not hasattr(value, "__array__") or isinstance(value, np.generic):
        return ""
    return f" Convert it: {conversion}." + (
        " PyTorch's tensors are for steepest.torch." if hasattr(value, "grad_fn") else ""
    )


def _kind(value: object) -> str:
    return (
        f"{type(value).__name__} {value!r}"
        if isinstance(value, (int, float, str, type(None)))
        else type(value).__name__
    )
