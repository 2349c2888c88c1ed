"""The rows of the conformance page: calls of other libraries, and the calls of ours that compare with them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ROWS", "Row"]


@dataclass(frozen=True)
class Row:
    """Texts that are run as they stand.

    ``theirs`` is the library's call on ``params``, with ``before`` run on the gradients of every step; ``ours`` is what one would
    write first; ``same`` is what gives the same numbers where that does not, after ``prelude``, and ``convention`` says why.
    Tensors of ``apart`` dimensions are left out of that last comparison, where nothing gives their numbers.
    """

    rule: str
    library: str
    theirs: str
    ours: str
    same: str = ""
    convention: str = ""
    prelude: str = ""
    before: str = ""
    apart: int = 0

    @property
    def key(self) -> str:
        return f"{self.library}: {self.theirs} {self.before}".strip()


_ADAGRAD = """
@steepest.rule(sum_of_squares=steepest.full(0.1))
def scale_by_adagrad_inside(update, state, *, eps: steepest.Positive = 1e-7):
    state.sum_of_squares = state.sum_of_squares + update**2
    return update / steepest.sqrt(state.sum_of_squares + eps)
"""
_RMS = """
@steepest.rule(square_avg=steepest.zeros)
def scale_by_rms_inside(update, state, *, alpha: steepest.Decay = 0.99, eps: steepest.Positive = 1e-8):
    state.square_avg = alpha * state.square_avg + (1 - alpha) * update**2
    return update / steepest.sqrt(state.square_avg + eps)
"""
_AMSGRAD = """
@steepest.rule(exp_avg=steepest.zeros, exp_avg_sq=steepest.zeros, max_corrected=steepest.zeros)
def scale_by_corrected_amsgrad(update, state, step, *, beta1: steepest.Decay = 0.9, beta2: steepest.Decay = 0.999):
    state.exp_avg = beta1 * state.exp_avg + (1 - beta1) * update
    state.exp_avg_sq = beta2 * state.exp_avg_sq + (1 - beta2) * update**2
    state.max_corrected = steepest.maximum(state.max_corrected, state.exp_avg_sq / (1 - beta2**step))
    return state.exp_avg / (1 - beta1**step) / (steepest.sqrt(state.max_corrected) + 1e-8)
"""
_NADAM = """
@steepest.rule(exp_avg=steepest.zeros, exp_avg_sq=steepest.zeros)
def scale_by_plain_nadam(update, state, step, *, beta1: steepest.Decay = 0.9, beta2: steepest.Decay = 0.999):
    state.exp_avg = beta1 * state.exp_avg + (1 - beta1) * update
    state.exp_avg_sq = beta2 * state.exp_avg_sq + (1 - beta2) * update**2
    ahead = beta1 * state.exp_avg / (1 - beta1 ** (step + 1)) + (1 - beta1) * update / (1 - beta1**step)
    return ahead / (steepest.sqrt(state.exp_avg_sq / (1 - beta2**step)) + 1e-8)
"""
_NADAMW = """
@steepest.rule(exp_avg=steepest.zeros, exp_avg_sq=steepest.zeros)
def scale_by_nadamw(update, state, step, *, beta1: steepest.Decay = 0.9, beta2: steepest.Decay = 0.999):
    state.exp_avg = beta1 * state.exp_avg + (1 - beta1) * update
    state.exp_avg_sq = beta2 * state.exp_avg_sq + (1 - beta2) * update**2
    ahead = beta1 * state.exp_avg + (1 - beta1) * update
    corrected = steepest.sqrt(state.exp_avg_sq / (1 - beta2**step))
    return ahead / (1 - beta1**step) / (corrected + 1e-8)
"""
_RADAM = """
@steepest.rule(exp_avg=steepest.zeros, exp_avg_sq=steepest.zeros)
def scale_by_corrected_radam(
    update, state, step, *, beta1: steepest.Decay = 0.9, beta2: steepest.Decay = 0.999, eps: steepest.Positive = 1e-8
):
    state.exp_avg = beta1 * state.exp_avg + (1 - beta1) * update
    state.exp_avg_sq = beta2 * state.exp_avg_sq + (1 - beta2) * update**2
    corrected = state.exp_avg / (1 - beta1**step)
    most = 2 / (1 - beta2) - 1
    length = most - 2 * step * beta2**step / (1 - beta2**step)
    known = steepest.maximum(length, 5.0)
    rectifier = steepest.sqrt((known - 4) * (known - 2) * most / ((most - 4) * (most - 2) * known))
    rectified = rectifier * corrected / (steepest.sqrt(state.exp_avg_sq / (1 - beta2**step)) + eps)
    return steepest.where(length >= 5, rectified, corrected)
"""
_RADAM_WAITS = """
@steepest.rule(exp_avg=steepest.zeros, exp_avg_sq=steepest.zeros)
def scale_by_waiting_radam(
    update, state, step, *, beta1: steepest.Decay = 0.9, beta2: steepest.Decay = 0.999, eps: steepest.Positive = 1e-8
):
    state.exp_avg = beta1 * state.exp_avg + (1 - beta1) * update
    state.exp_avg_sq = beta2 * state.exp_avg_sq + (1 - beta2) * update**2
    most = 2 / (1 - beta2) - 1
    length = most - 2 * step * beta2**step / (1 - beta2**step)
    known = steepest.maximum(length, 5.0)
    rectifier = steepest.sqrt((1 - beta2**step) * (known - 4) * (known - 2) * most / ((most - 4) * (most - 2) * known))
    rectified = rectifier / (1 - beta1**step) * state.exp_avg / (steepest.sqrt(state.exp_avg_sq) + eps)
    return steepest.where(length >= 5, rectified, 0.0 * update)
"""
_CLIP = """
@steepest.rule
def clip_to_norm(update, *, max_norm: steepest.Positive):
    return update / steepest.maximum(1.0, steepest.norm(update, per="model") / max_norm)
"""
_LAMB = """
@steepest.rule
def descend_by_clamped_lamb(param, update, step, *, lr: steepest.Positive, weight_decay: steepest.NonNegative):
    decayed = param * (1 - lr * weight_decay)
    weight = steepest.minimum(steepest.norm(decayed, per="tensor"), 10.0)
    length = steepest.norm(update, per="tensor")
    ratio = steepest.where((weight > 0) & (length > 0), weight / (length + 1e-6), 1.0)
    return decayed - lr / (1 - 0.9**step) * ratio * update
"""
_LOOKAHEAD = """
@steepest.rule(slow=steepest.copy_of_param)
def late_lookahead(param, state, step, *, k: steepest.Count = 5, alpha: steepest.Fraction = 0.5):
    synchronise = step % k == 0
    start = steepest.where(step == k, param, state.slow)
    state.slow = steepest.where(synchronise, start + alpha * (param - start), state.slow)
    return steepest.where(synchronise, state.slow, param)
"""

ROWS: list[Row] = [
    Row("SGD", "torch", "torch.optim.SGD(params, lr=0.1, momentum=0.9)", "steepest.sgd(0.1, momentum=0.9)"),
    Row(
        "SGD", "torch", "torch.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True)",
        "steepest.sgd(0.1, momentum=0.9, nesterov=True)",
    ),
    Row("SGD", "optax", "optax.sgd(0.1, momentum=0.9)", "steepest.sgd(0.1, momentum=0.9)"),
    Row("SGD", "optax", "optax.sgd(0.1, momentum=0.9, nesterov=True)", "steepest.sgd(0.1, momentum=0.9, nesterov=True)"),
    Row("SGD", "optimi", "optimi.SGD(params, lr=0.1, momentum=0.9)", "steepest.sgd(0.1, momentum=0.9)"),
    Row("Adagrad", "torch", "torch.optim.Adagrad(params, lr=0.1)", "steepest.adagrad(0.1)"),
    Row(
        "Adagrad", "optax", "optax.adagrad(0.1)", "steepest.adagrad(0.1)",
        "steepest.chain(scale_by_adagrad_inside(), steepest.descend(0.1))",
        "the sum starts at 0.1, not at 0, and eps (1e-7) stands inside the root.", _ADAGRAD,
    ),
    Row("RMSprop", "torch", "torch.optim.RMSprop(params, lr=0.01)", "steepest.rmsprop(0.01)"),
    Row(
        "RMSprop", "optax", "optax.rmsprop(0.01, decay=0.99)", "steepest.rmsprop(0.01)",
        "steepest.chain(scale_by_rms_inside(), steepest.descend(0.01))",
        "eps stands inside the root, unless `eps_in_sqrt=False` is given (and its decay is 0.9 by default, torch's alpha 0.99).",
        _RMS,
    ),
    Row(
        "RMSprop", "optax", "optax.rmsprop(0.01, decay=0.99, eps_in_sqrt=False)", "steepest.rmsprop(0.01)",
    ),
    Row("Adadelta", "torch", "torch.optim.Adadelta(params, lr=1.0)", "steepest.adadelta(1.0)"),
    Row("Adadelta", "optax", "optax.adadelta(1.0)", "steepest.adadelta(1.0)"),
    Row("Adam", "torch", "torch.optim.Adam(params, lr=0.01)", "steepest.adam(0.01)"),
    Row("Adam", "torch", "torch.optim.Adam(params, lr=0.01, amsgrad=True)", "steepest.adam(0.01, amsgrad=True)"),
    Row("Adam", "optax", "optax.adam(0.01)", "steepest.adam(0.01)"),
    Row(
        "Adam", "optax", "optax.amsgrad(0.01)", "steepest.adam(0.01, amsgrad=True)",
        "steepest.chain(scale_by_corrected_amsgrad(), steepest.descend(0.01))",
        "the maximum is taken of the bias-corrected second moments; torch and this library take it of the moments and correct it "
        "afterwards.", _AMSGRAD,
    ),
    Row(
        "Adam", "optimi", "optimi.Adam(params, lr=0.01)", "steepest.adam(0.01)", "steepest.adam(0.01, (0.9, 0.99), eps=1e-6)",
        "beta2 is 0.99 and eps 1e-6 by default.",
    ),
    Row("AdamW", "torch", "torch.optim.AdamW(params, lr=0.01)", "steepest.adamw(0.01)"),
    Row(
        "AdamW", "optax", "optax.adamw(0.01)", "steepest.adamw(0.01)", "steepest.adamw(0.01, weight_decay=1e-4)",
        "the decay is 1e-4 by default, torch's 1e-2.",
    ),
    Row(
        "AdamW", "optimi", "optimi.AdamW(params, lr=0.01, weight_decay=0.01)", "steepest.adamw(0.01)",
        "steepest.adamw(0.01, (0.9, 0.99), eps=1e-6)", "beta2 is 0.99 and eps 1e-6 by default.",
    ),
    Row(
        "AdamW", "optimi", "optimi.AdamW(params, lr=0.01, weight_decay=1e-4, decouple_lr=True)",
        "steepest.adamw(0.01, weight_decay=1e-4)", "steepest.adamw(0.01, (0.9, 0.99), weight_decay=1e-4 / 0.01, eps=1e-6)",
        "with `decouple_lr` the decay is not multiplied by the learning rate, only by its schedule.",
    ),
    Row("Adamax", "torch", "torch.optim.Adamax(params, lr=0.01)", "steepest.adamax(0.01)"),
    Row("Adamax", "optax", "optax.adamax(0.01)", "steepest.adamax(0.01)"),
    Row("NAdam", "torch", "torch.optim.NAdam(params, lr=0.01)", "steepest.nadam(0.01)"),
    Row(
        "NAdam", "optax", "optax.nadam(0.01)", "steepest.nadam(0.01)",
        "steepest.chain(scale_by_plain_nadam(), steepest.descend(0.01))",
        "Nesterov's look ahead without the paper's schedule of momenta.", _NADAM,
    ),
    Row(
        "NAdam", "timm", "timm.NAdamW(params, lr=0.01, weight_decay=0.0)", "steepest.nadam(0.01)",
        "steepest.chain(scale_by_nadamw(), steepest.descend(0.01))",
        "no schedule of momenta, and both terms are corrected by the same factor.", _NADAMW,
    ),
    Row("RAdam", "torch", "torch.optim.RAdam(params, lr=0.01)", "steepest.radam(0.01)"),
    Row(
        "RAdam", "optax", "optax.radam(0.01)", "steepest.radam(0.01)",
        "steepest.chain(scale_by_corrected_radam(), steepest.descend(0.01))",
        "eps is added to the root of the corrected second moment.", _RADAM,
    ),
    Row(
        "RAdam", "optimi", "optimi.RAdam(params, lr=0.01)", "steepest.radam(0.01)",
        "steepest.chain(scale_by_corrected_radam(beta2=0.99, eps=1e-6), steepest.descend(0.01))",
        "beta2 is 0.99 and eps 1e-6 by default, and eps is added to the root of the corrected second moment.", _RADAM,
    ),
    Row(
        "RAdam", "pytorch_optimizer", "pytorch_optimizer.RAdam(params, lr=0.01)", "steepest.radam(0.01)",
        "steepest.chain(scale_by_waiting_radam(), steepest.descend(0.01))",
        "below the threshold no step is taken (`degenerated_to_sgd=False`), where torch and the paper take one of momentum.",
        _RADAM_WAITS,
    ),
    Row("Lion", "optax", "optax.lion(0.01, weight_decay=0.1)", "steepest.lion(0.01, weight_decay=0.1)"),
    Row("Lion", "timm", "timm.Lion(params, lr=0.01, weight_decay=0.1)", "steepest.lion(0.01, weight_decay=0.1)"),
    Row("Lion", "optimi", "optimi.Lion(params, lr=0.01, weight_decay=0.1)", "steepest.lion(0.01, weight_decay=0.1)"),
    Row(
        "Lion", "pytorch_optimizer", "pytorch_optimizer.Lion(params, lr=0.01, weight_decay=0.1)",
        "steepest.lion(0.01, weight_decay=0.1)",
    ),
    Row("LAMB", "optax", "optax.lamb(0.01, weight_decay=0.1)", "steepest.lamb(0.01, weight_decay=0.1)"),
    Row(
        "LAMB", "timm", "timm.Lamb(params, lr=0.01, weight_decay=0.1)", "steepest.lamb(0.01, weight_decay=0.1)",
        "steepest.chain(clip_to_norm(1.0), steepest.lamb(0.01, weight_decay=0.1))",
        "gradients are clipped by global norm to 1 first (`max_grad_norm=1.0`), without torch's 1e-6.", _CLIP,
    ),
    Row(
        "LAMB", "timm", "timm.Lamb(params, lr=0.01, weight_decay=0.0)", "steepest.lamb(0.01)",
        "steepest.chain(clip_to_norm(1.0), steepest.adam(0.01, eps=1e-6))",
        "without decay there is no trust ratio (`always_adapt=False`): it is Adam, clipped.", _CLIP,
    ),
    Row(
        "LAMB", "pytorch_optimizer", "pytorch_optimizer.Lamb(params, lr=0.01, weight_decay=0.1)",
        "steepest.lamb(0.01, weight_decay=0.1)",
        "steepest.chain(steepest.scale_by_adam(eps=1e-6, bias_correction=False), descend_by_clamped_lamb(0.01, 0.1))",
        "the decay stands outside of the norm and is applied to the weights first; the length of the weights is at most 10; the "
        "second moment is not corrected, the first through the step size.", _LAMB,
    ),
    Row("LARS", "optax", "optax.lars(1.0, weight_decay=0.1)", "steepest.lars(1.0, weight_decay=0.1)"),
    Row(
        "LARS", "timm", "timm.Lars(params, lr=1.0, momentum=0.9, weight_decay=0.1)", "steepest.lars(1.0, weight_decay=0.1)",
        "steepest.lars(1.0, weight_decay=0.1, eps=1e-8, norms_apart=True, lr_in_momentum=False)",
        "the paper's denominator, the norms of gradient and decay added, with an eps of 1e-8; the learning rate outside of the "
        "momentum.",
    ),
    Row(
        "LARS", "timm", "timm.Lars(params, lr=0.1, momentum=0.9)", "steepest.lars(0.1)", "steepest.sgd(0.1, momentum=0.9)",
        "without decay there is no trust ratio (`always_adapt=False`): with its defaults it is SGD.",
    ),
    Row(
        "LARS", "pytorch_optimizer", "pytorch_optimizer.LARS(params, lr=1.0, momentum=0.9, weight_decay=0.1)",
        "steepest.lars(1.0, weight_decay=0.1)",
        "steepest.chain(\n    steepest.exclude(steepest.scale_by_lars_ratio(0.1), max_ndim=1),\n    "
        "steepest.accumulate_momentum(0.9),\n    steepest.descend(1.0),\n)",
        "the paper's denominator, learning rate outside of the momentum, and neither decay nor ratio where there is one dimension.",
    ),
    Row(
        "Lookahead", "optax", "optax.lookahead(optax.adam(0.01), 5, 0.5)",
        "steepest.chain(steepest.adam(0.01), steepest.lookahead(5, 0.5))",
    ),
    Row(
        "Lookahead", "timm", "timm.Lookahead(torch.optim.Adam(params, lr=0.01), alpha=0.5, k=5)",
        "steepest.chain(steepest.adam(0.01), steepest.lookahead(5, 0.5))",
        "steepest.chain(steepest.adam(0.01), late_lookahead(5, 0.5))",
        "the slow weights are made at the first synchronisation, which so does nothing; in the paper they start at the initial "
        "weights.",
        _LOOKAHEAD,
    ),
    Row(
        "Lookahead", "pytorch_optimizer", "pytorch_optimizer.Lookahead(torch.optim.Adam(params, lr=0.01), alpha=0.5, k=5)",
        "steepest.chain(steepest.adam(0.01), steepest.lookahead(5, 0.5))",
    ),
    Row(
        "Clipping by norm", "torch", "torch.optim.SGD(params, lr=0.1)",
        "steepest.chain(steepest.clip_by_global_norm(0.7), steepest.sgd(0.1))",
        before="torch.nn.utils.clip_grad_norm_(params, 0.7)",
    ),
    Row(
        "Clipping by norm", "optax", "optax.chain(optax.clip_by_global_norm(0.7), optax.sgd(0.1))",
        "steepest.chain(steepest.clip_by_global_norm(0.7), steepest.sgd(0.1))",
        "steepest.chain(clip_to_norm(0.7), steepest.sgd(0.1))", "no 1e-6 in the denominator.", _CLIP,
    ),
    Row(
        "Adaptive gradient clipping", "timm", "torch.optim.SGD(params, lr=0.1)",
        "steepest.chain(steepest.adaptive_grad_clip(0.05), steepest.sgd(0.1))",
        before="timm.adaptive_clip_grad(params, clip_factor=0.05)",
    ),
    Row(
        "Adaptive gradient clipping", "optax", "optax.chain(optax.adaptive_grad_clip(0.05), optax.sgd(0.1))",
        "steepest.chain(steepest.adaptive_grad_clip(0.05), steepest.sgd(0.1))",
        "steepest.chain(steepest.adaptive_grad_clip(0.05, axis=-1), steepest.sgd(0.1))",
        "with two and four dimensions a unit is a slice along the last one, as JAX's layouts have it; in PyTorch's it is one along "
        "the first. With three dimensions Optax takes the norm along the first alone, which no `axis` of this library does.",
        apart=3,
    ),
]  # fmt: skip
