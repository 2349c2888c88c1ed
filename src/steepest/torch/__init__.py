"""The front end for PyTorch: every rule and any chain as a `torch.optim.Optimizer`.

    import steepest.torch as opt
    optimizer = opt.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)

The named classes take the arguments of torch's class of the same rule; `Optimizer` takes any chain.
"""

from steepest.torch import named
from steepest.torch.clipping import adaptive_clip_grad_, clip_grad_norm_, clip_grad_value_
from steepest.torch.named import *  # noqa: F403  # a class per recipe, listed in named.__all__
from steepest.torch.optimizer import Optimizer
from steepest.torch.release import release_gradients

__all__ = ["Optimizer", "adaptive_clip_grad_", "clip_grad_norm_", "clip_grad_value_", "release_gradients"]
__all__ += named.__all__
