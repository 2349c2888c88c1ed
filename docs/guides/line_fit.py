"""A workload of one's own, as small as one can be: a line fitted to noisy points."""

import numpy as np

import steepest.workbench as wb


@wb.workload(steps=60, metric="loss")
def line(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(300, 3)).astype(np.float32)
    y = x @ np.array([1.0, -2.0, 0.5], np.float32) + 0.1 * rng.normal(size=300).astype(np.float32)
    params = {"w": np.zeros(3, np.float32)}
    parts = {"validation": slice(100, 200), "test": slice(200, 300)}

    def loss_and_gradients(step):
        rows = rng.integers(0, 100, 16)
        error = x[rows] @ params["w"] - y[rows]
        return float(error @ error) / 16, {"w": 2 * x[rows].T @ error / 16}

    def evaluate(part):
        error = x[parts[part]] @ params["w"] - y[parts[part]]
        return {"loss": float(error @ error) / 100}

    return wb.ArrayTask(params, loss_and_gradients, evaluate)
