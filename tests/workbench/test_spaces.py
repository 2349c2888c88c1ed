"""What is searched: the declared ranges, what a user says about them, and the way from a configuration to a chain."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import steepest
from steepest import schedules
from steepest.workbench.campaign import DEFAULT, EVERYTHING
from steepest.workbench.parse import split_list
from steepest.workbench.spaces import (
    DECLARED,
    Choice,
    Dimension,
    Log,
    centre,
    edges_of,
    fixed_of,
    narrowed,
    reading,
    searched,
    space_of,
    values_of,
)

RULES = """import steepest

def mine(lr=0.1, beta1: steepest.Decay = 0.9, eps: steepest.Positive = 1e-8, k: steepest.Count = 6, share: steepest.Fraction = 0.1,
         nesterov: bool = False, name="x"):
    return steepest.chain(steepest.adam(2 * lr, betas=(beta1, 0.99), eps=eps, amsgrad=nesterov), steepest.lookahead(k))

def bare(lr):
    return steepest.sgd(lr)

def fixed():
    return steepest.sgd(0.125)
"""


@pytest.fixture
def rules(tmp_path: Path) -> str:
    file = tmp_path / "my_rules.py"
    file.write_text(RULES)
    return str(file)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("sgd", ["lr", "sgd.weight_decay", "schedule", "warmup"]),
        ("sgd(0.1)", ["sgd.weight_decay"]),
        ("sgd(0.1, weight_decay=0)", []),
        ("adam(betas=(0.9, 0.99))", ["lr", "adam.eps", "schedule", "warmup"]),
        ("adam(eps=1e-7) | ema", ["lr", "adam.beta1", "adam.beta2", "ema.decay", "schedule", "warmup"]),
        ("lookahead(sgd, k=5)", ["lr", "sgd.weight_decay", "lookahead.alpha", "schedule", "warmup"]),
        ("clip_by_global_norm | sgd(0.1, weight_decay=0)", ["clip_by_global_norm.max_norm"]),
        ("sgd(cosine(lr, steps), weight_decay=0)", ["lr"]),
        ("sgd(weight_decay=0.1 * lr)", ["lr"]),
        ("sgd(lr=lr)", ["lr", "sgd.weight_decay"]),
        ("sgd(cosine(lr, steps, warmup=2000), weight_decay=0)", ["lr"]),
        ("scale_by_adam | descend(lr)", ["lr"]),
    ],
)
def test_what_a_text_leaves_open_is_searched_the_rate_first(text: str, names: list[str]) -> None:
    assert list(space_of(text)) == names


def test_heavy_momentum_has_lower_rates() -> None:
    assert (space_of("sgd")["lr"], space_of("sgd(momentum=0.9)")["lr"]) == (Log(1e-3, 10.0), Log(1e-4, 1.0))


def test_every_default_and_declared_range_is_allowed_by_its_recipe() -> None:
    for recipe, space in DECLARED.items():
        inner = recipe if recipe in steepest.OPTIMIZERS else f"{recipe} | sgd"
        inner = f"sgd | {recipe}" if recipe in steepest.WRAPPERS else inner
        for name, dimension in space.items():
            key = "lr" if name == "lr" else f"{recipe}.{name}"
            ends = dimension.values if isinstance(dimension, Choice) else (dimension.low, dimension.high)
            for drawn in ends:
                reading(inner, {"lr": 1e-3, **values_of({key: dimension}, {key: drawn})}, 100)


def test_a_users_recipe_declares_its_space_by_types_and_defaults(rules: str) -> None:
    space = space_of(f"{rules}:mine")
    own = {name.rpartition(".")[2]: dimension for name, dimension in space.items()}
    assert list(own) == ["lr", "beta1", "eps", "k", "share", "nesterov", "schedule", "warmup"]
    assert own["lr"] == Log(pytest.approx(1e-3), pytest.approx(10.0))
    assert own["eps"] == Log(pytest.approx(1e-10), pytest.approx(1e-6))
    assert own["k"] == Choice((3, 6, 12))
    assert own["nesterov"] == Choice((False, True))
    beta, share = own["beta1"], own["share"]
    assert isinstance(beta, Log) and isinstance(share, Log)
    assert (beta.below, share) == (1.0, Log(pytest.approx(1e-3), 1.0))
    assert beta.low < 0.1 < beta.high  # the default is among them
    assert list(space_of(f"{rules}:bare")) == ["lr", "schedule", "warmup"]
    assert space_of(f"{rules}:fixed") == {}


def test_a_users_recipe_is_made_with_what_was_drawn_and_a_schedule(rules: str) -> None:
    text = f"clip_by_norm(1.0) | {rules}:mine"
    values = {"lr": 0.2, f"{rules}:mine.beta1": 0.8, f"{rules}:mine.k": 3, f"{rules}:mine.nesterov": True}
    expected = steepest.chain(
        steepest.clip_by_norm(1.0),
        steepest.adam(2 * schedules.cosine(0.2, 50, warmup=5), (0.8, 0.99), amsgrad=True),
        steepest.lookahead(3),
    )
    assert reading(text, {**values, "schedule": "cosine", "warmup": 0.1}, 50).chain == expected


def test_what_is_not_searched_is_named(rules: str) -> None:
    open_ones = ["lr", "sgd.weight_decay"]
    assert fixed_of("sgd", dict.fromkeys(open_ones)) == ("sgd.momentum", "sgd.dampening", "sgd.nesterov")
    assert fixed_of("sgd", {})[0] == "sgd.lr"
    assert "adam.betas" in fixed_of("adam", {"adam.beta1": ""})
    assert "adam.betas" not in fixed_of("adam", {"adam.beta1": "", "adam.beta2": ""})
    assert fixed_of(f"{rules}:mine", space_of(f"{rules}:mine")) == (f"{rules}:mine.name",)


def test_a_user_narrows_fixes_and_chooses() -> None:
    space = narrowed(space_of("adamw"), "lr=1e-4:1e-2; adamw.eps = 1e-8; schedule=cosine,linear; adamw.beta2=0.9:0.99;")
    assert space["lr"] == Log(1e-4, 1e-2, closed=True)
    assert space["adamw.eps"] == Choice((1e-8,))
    assert space["schedule"] == Choice(("cosine", "linear"))
    assert space["adamw.beta2"] == Log(0.01, 0.1, 1.0, closed=True)  # said of beta, drawn below 1
    assert space["adamw.beta1"] == space_of("adamw")["adamw.beta1"]
    assert narrowed(space_of("lookahead(sgd)"), "lookahead.k=4:7")["lookahead.k"] == Choice((4, 5, 6, 7))


def test_flags_and_whole_numbers_of_a_users_recipe_stay_what_they_are(rules: str) -> None:
    key = f"{rules}:mine"
    space = searched(key, f"{key}.nesterov=True; {key}.k=2,9")
    assert (space[f"{key}.nesterov"], space[f"{key}.k"]) == (Choice((True,)), Choice((2, 9)))
    assert all(isinstance(value, int) for value in space[f"{key}.k"].values)  # type: ignore[union-attr]  # a Choice


NUMBERS = "must be low:high with 0 < low < high, or values separated by commas"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("lrr=1", "space: unknown hyperparameter 'lrr'. Did you mean 'lr'? Known: adamw.beta1, adamw.beta2, adamw.eps, "
         "adamw.weight_decay, lr, schedule, warmup."),
        ("lr", "space: 'lr' has no value. Write, for example, 'lr=1e-4:1e-2; schedule=cosine'."),
        ("lr=space", f"space: lr {NUMBERS}, got 'space'."),
        ("lr=1:0.1", f"space: lr {NUMBERS}, got '1:0.1'."),
        ("lr=0:1", f"space: lr {NUMBERS}, got '0:1'."),
        ("lr=1:inf", f"space: lr {NUMBERS}, got '1:inf'."),
        ("lr=nan", f"space: lr {NUMBERS}, got 'nan'."),
        ("lr=", f"space: lr {NUMBERS}, got ''."),
        ("lr=1:2:3", f"space: lr {NUMBERS}, got '1:2:3'."),
        ("schedule=cosin", "space: unknown schedule 'cosin'. Did you mean 'cosine'? Known: constant, cosine, linear, wsd."),
        ("schedule=1:2", "space: unknown schedule '1:2'. Known: constant, cosine, linear, wsd."),
        ("adamw.eps=-1", "adamw: eps must be >= 0, got -1.0."),
        ("adamw.beta2=0.5:2", "adamw: betas[1] must be in [0, 1), got 2.0. At 1.0 the average never forgets its initial value."),
    ],
)  # fmt: skip
def test_a_space_that_cannot_be_is_refused(said: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"space|adamw") as caught:
        searched("adamw", said)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("sgd", 0.3), ("sgd(nesterov=True, momentum=0.9)", 0.03), ("adamw", 3e-3), ("adamax", 1e-2), ("nadam", 3e-3),
        ("clip_by_norm(1) | lookahead(lamb)", 1e-2), ("adamw(cosine(lr, steps)) | ema", 3e-3),
        ("scale_by_adam | descend(lr)", 3e-3), ("scale_by_sign_of_nothing", None), ("clip_by_norm(1) | descend(lr)", 1e-3),
    ],
)  # fmt: skip
def test_a_search_starts_where_the_family_usually_is(text: str, rate: float | None) -> None:
    if rate is None:
        with pytest.raises(ValueError, match="unknown rule or recipe"):
            centre(text)
    else:
        assert centre(text) == rate


def test_a_search_starts_at_a_users_own_default_whatever_the_file_is_called(tmp_path: Path) -> None:
    file = tmp_path / "my_sgd.py"
    file.write_text(RULES)
    assert centre(f"{file}:mine") == 0.1
    assert centre(f"{file}:bare") == 1e-3
    assert centre("adam", {"adam": 0.5}) == 0.5


def drawn(space: dict[str, Dimension], rng: random.Random) -> dict[str, float | str | bool]:
    return {
        name: rng.choice(d.values) if isinstance(d, Choice) else d.low * (d.high / d.low) ** rng.random()
        for name, d in space.items()
    }


@pytest.mark.parametrize("text", EVERYTHING)
def test_the_line_to_paste_makes_the_chain_that_ran(text: str) -> None:
    rng = random.Random(text)
    space = space_of(text)
    for steps in (20, 400):
        for _ in range(20):
            values = values_of(space, drawn(space, rng))
            made = reading(text, values, steps, centre(text))
            again = eval(made.python, {"steepest": steepest})
            assert list(map(repr, again)) == list(map(repr, made.chain))  # a plateau equals itself alone


def test_values_have_three_digits() -> None:
    space: dict[str, Dimension] = {
        "lr": Log(1e-4, 1.0),
        "adam.beta2": Log(1e-4, 0.3, 1.0),
        "schedule": Choice(("wsd",)),
    }
    values = values_of(space, {"lr": 0.123456, "adam.beta2": 0.000123456, "schedule": "wsd"})
    assert values == {"lr": 0.123, "adam.beta2": 0.999877, "schedule": "wsd"}


def test_edges_are_within_a_tenth_of_a_decade() -> None:
    space: dict[str, Dimension] = {"lr": Log(1e-3, 1.0), "k": Choice((5, 10))}
    for lr, edges in ((1.2e-3, ("lr",)), (1.3e-3, ()), (0.7, ()), (0.85, ("lr",)), (1.0, ("lr",))):
        assert edges_of(space, {"lr": lr, "k": 5}) == edges


def test_all_defaults_are_read_as_one_list() -> None:
    assert tuple(split_list(", ".join(DEFAULT))) == DEFAULT
