"""Optimizers for NumPy arrays, updated in place.

    import steepest.numpy as opt
    optimizer = opt.Adam([W, b], lr=1e-3)
    optimizer.step([dW, db])

The named classes take a recipe's arguments; `Optimizer` takes any chain. Parameters are a list, a dict of name to array, or a
list of groups ``{"params": …, "lr": …}`` with values of their own; gradients have the same structure, None where there is
none. ``optimizer.param_groups[0]["lr"] = …`` changes a value between steps without planning again.
"""

from steepest.numpy import named
from steepest.numpy.clipping import adaptive_clip_grad_, clip_grad_norm_, clip_grad_value_
from steepest.numpy.named import *  # noqa: F403  # a class per recipe, listed in named.__all__
from steepest.numpy.optimizer import Optimizer, Plans

__all__ = ["Optimizer", "Plans", "adaptive_clip_grad_", "clip_grad_norm_", "clip_grad_value_"]
__all__ += named.__all__
