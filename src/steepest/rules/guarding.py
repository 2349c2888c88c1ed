"""Leaving out a step whose update is not finite, in chains that compute no norm which would say so.

`clip_by_global_norm(…, on_nonfinite="skip")` does the same where a chain clips anyway, and costs nothing there.
"""

from __future__ import annotations

from steepest.language.functions import isfinite, sum, where
from steepest.language.rule import rule
from steepest.language.trace import require


@rule
def skip_nonfinite(update):
    """Leave out the whole step, states and step count included, if one element of the model's update is nan or infinite.

    First in a chain it looks at the gradients. The count of such elements has to be complete before anything is stored, which
    is a pass more over the gradients: 4 bytes per parameter in float32. In a model with several groups each group's chain
    needs it; they count together. `Guard` bounds how many steps in a row may be left out.

    >>> import numpy as np, steepest, steepest.numpy as opt
    >>> w = np.array([1.0, 2.0])
    >>> optimizer = opt.Optimizer([w], steepest.chain(steepest.skip_nonfinite(), steepest.adamw(0.1)))
    >>> optimizer.step([np.array([np.nan, 1.0])])
    >>> w, optimizer.steps
    (array([1., 2.]), 0)

    Source: Micikevicius et al. (2018), section 3.2, which skips the update when the scaled loss has overflowed.
    """
    nonfinite = sum(where(isfinite(update), 0.0, 1.0), per="model")
    require(nonfinite == 0, "skip", "skip_nonfinite: an element of the update is not finite")
    return update
