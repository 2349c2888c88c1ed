"""Optimizers on work of one's own: steepest compare --workload examples/own_workload.py:circles"""

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from steepest.workbench.workload import TorchTask, workload


def points(seed):
    """256 points, and whether each lies inside the unit circle."""
    x = torch.randn(256, 2, generator=torch.Generator().manual_seed(seed))
    return x, (x.norm(dim=1, keepdim=True) < 1).float()


@workload(steps=300, failed=1.0)
def circles(seed):
    """Inside or outside of a circle: 2-32-1, tanh; 256 new points in every step"""
    torch.manual_seed(seed)  # the same weights for every optimizer
    model = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))

    def loss(step):
        x, inside = points(1000 * seed + step)
        return binary_cross_entropy_with_logits(model(x), inside)

    def evaluate(part):
        x, inside = points({"validation": -1, "test": -2}[part])
        return {"loss": float(binary_cross_entropy_with_logits(model(x), inside))}

    return TorchTask(model, loss, evaluate)
