"""The mathematics: a file per family, each rule once, each recipe a short chain with its paper's defaults.

``RECIPES`` is everything that gives a chain when called, by name: what the command line may name and lists.
"""

from collections.abc import Callable
from typing import Any

from steepest.rules.adam import (
    adam,
    adamax,
    adamw,
    lion,
    nadam,
    radam,
    scale_by_adam,
    scale_by_adamax,
    scale_by_amsgrad,
    scale_by_lion,
    scale_by_nadam,
    scale_by_radam,
)
from steepest.rules.adaptive import (
    adadelta,
    adagrad,
    rmsprop,
    scale_by_adadelta,
    scale_by_adagrad,
    scale_by_inverse_time,
    scale_by_rms,
    scale_by_stddev,
)
from steepest.rules.averaging import ema, lookahead
from steepest.rules.clipping import (
    adaptive_grad_clip,
    clip_by_block_rms,
    clip_by_global_norm,
    clip_by_norm,
    clip_by_value,
)
from steepest.rules.descent import (
    accumulate_momentum,
    add_decayed_weights,
    descend,
    negate,
    scale_by_learning_rate,
    sgd,
)
from steepest.rules.guarding import skip_nonfinite
from steepest.rules.layerwise import lamb, lars, scale_by_lars_ratio, scale_by_trust_ratio

OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "sgd": sgd,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adadelta": adadelta,
    "adam": adam,
    "adamw": adamw,
    "adamax": adamax,
    "nadam": nadam,
    "radam": radam,
    "lion": lion,
    "lamb": lamb,
    "lars": lars,
}
CLIPS: dict[str, Callable[..., Any]] = {
    "clip_by_value": clip_by_value,
    "clip_by_global_norm": clip_by_global_norm,
    "clip_by_norm": clip_by_norm,
    "clip_by_block_rms": clip_by_block_rms,
    "adaptive_grad_clip": adaptive_grad_clip,
}
WRAPPERS: dict[str, Callable[..., Any]] = {"lookahead": lookahead, "ema": ema}
PARTS: dict[str, Callable[..., Any]] = {
    "descend": descend,
    "negate": negate,
    "scale_by_learning_rate": scale_by_learning_rate,
    "add_decayed_weights": add_decayed_weights,
    "accumulate_momentum": accumulate_momentum,
    "scale_by_adam": scale_by_adam,
    "scale_by_amsgrad": scale_by_amsgrad,
    "scale_by_adamax": scale_by_adamax,
    "scale_by_nadam": scale_by_nadam,
    "scale_by_radam": scale_by_radam,
    "scale_by_lion": scale_by_lion,
    "scale_by_adagrad": scale_by_adagrad,
    "scale_by_inverse_time": scale_by_inverse_time,
    "scale_by_rms": scale_by_rms,
    "scale_by_stddev": scale_by_stddev,
    "scale_by_adadelta": scale_by_adadelta,
    "scale_by_trust_ratio": scale_by_trust_ratio,
    "scale_by_lars_ratio": scale_by_lars_ratio,
    "skip_nonfinite": skip_nonfinite,
}
RECIPES: dict[str, Callable[..., Any]] = {**OPTIMIZERS, **CLIPS, **WRAPPERS, **PARTS}

__all__ = [
    "CLIPS",
    "OPTIMIZERS",
    "PARTS",
    "RECIPES",
    "WRAPPERS",
    "accumulate_momentum",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "adaptive_grad_clip",
    "add_decayed_weights",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "descend",
    "ema",
    "lamb",
    "lars",
    "lion",
    "lookahead",
    "nadam",
    "negate",
    "radam",
    "rmsprop",
    "scale_by_adadelta",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_amsgrad",
    "scale_by_inverse_time",
    "scale_by_lars_ratio",
    "scale_by_learning_rate",
    "scale_by_lion",
    "scale_by_nadam",
    "scale_by_radam",
    "scale_by_rms",
    "scale_by_stddev",
    "scale_by_trust_ratio",
    "sgd",
    "skip_nonfinite",
]
