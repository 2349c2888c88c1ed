"""The parser: every form that a chain can be written in, and what is said about each mistake."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

import steepest
from steepest import schedules
from steepest.workbench import parse
from steepest.workbench.campaign import EVERYTHING
from steepest.workbench.parse import _EXAMPLES, _SCHEDULES, read, split_list
from steepest.workbench.spaces import centre
from steepest.workbench.users import module_of

NO_RULE = " isn't a rule or recipe. Join them by |, as in 'adam(1e-3) | ema(0.99)'."
NOT_ALLOWED = " can't be used here. Write a number, a string, a tuple or a schedule."
ARGUMENTS = " is a schedule without its arguments. Write them, as in "
RULE = " Write a rule there, or remove the |"
UNNAMED = (
    " has no name but follows a named argument. Name it, move it to the front, or write ( ) around values that "
    "belong together"
)
SCHEDULE = "cosine is a schedule. Pass it to a hyperparameter, as in 'adam(lr=cosine(…))'."


@pytest.mark.parametrize(
    ("text", "chain"),
    [
        ("adam", steepest.adam()),
        ("adam()", steepest.adam()),
        (" adam(1e-3) ", steepest.adam(1e-3)),
        ("adam(lr=1e-3, betas=(0.8, 0.9), amsgrad=True)", steepest.adam(1e-3, (0.8, 0.9), amsgrad=True)),
        ("clip_by_value(-0.1, +0.1) | sgd(0.1)", steepest.chain(steepest.clip_by_value(-0.1, 0.1), steepest.sgd(0.1))),
        (
            "clip_by_global_norm(1.0, inf, 'skip') | adamw | ema(0.999)",
            steepest.chain(steepest.clip_by_global_norm(1.0, math.inf, "skip"), steepest.adamw(), steepest.ema(0.999)),
        ),
        ("lookahead(adam(1e-3), k=5)", steepest.chain(steepest.adam(1e-3), steepest.lookahead(k=5))),
        ("lookahead(adam, 6, 0.8)", steepest.chain(steepest.adam(), steepest.lookahead(6, 0.8))),
        ("ema(clip_by_norm(1) | sgd)", steepest.chain(steepest.clip_by_norm(1), steepest.sgd(), steepest.ema())),
        (
            "adamw(lr=cosine(1e-3, steps=1000, warmup=50))",
            steepest.adamw(lr=schedules.cosine(1e-3, steps=1000, warmup=50)),
        ),
        (
            "sgd(join((0.1, linear(0.1, 0, 10)), (5,)))",
            steepest.sgd(schedules.join((0.1, schedules.linear(0.1, 0, 10)), (5,))),
        ),
        (
            "scale_by_adam | exclude(add_decayed_weights(0.1), '*.bias', max_ndim=1) | descend(2 * 0.25)",
            steepest.chain(
                steepest.scale_by_adam(),
                steepest.exclude(steepest.add_decayed_weights(0.1), "*.bias", max_ndim=1),
                steepest.descend(0.5),
            ),
        ),
        (
            "scale_by_trust_ratio(low=None) | descend(1 / 4)",
            steepest.chain(steepest.scale_by_trust_ratio(), steepest.descend(0.25)),
        ),
    ],
)
def test_a_text_gives_the_chain_that_python_gives(text: str, chain: steepest.Chain) -> None:
    assert parse(text) == chain


def test_lr_and_steps_stand_for_the_numbers_given() -> None:
    variables = {"lr": 0.25, "steps": 100}
    assert parse("adam", variables) == steepest.adam(0.25)
    assert parse("adam(0.5)", variables) == steepest.adam(0.5)
    assert parse("sgd(cosine(lr, steps // 2))", variables) == steepest.sgd(schedules.cosine(0.25, 50))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the chain is empty. Write, for example, 'clip_by_global_norm(1.0) | adamw(lr=1e-3)'."),
        ("  adam(  ", "'adam(' isn't a chain: the ( at character 5 is never closed."),
        ("adam\0", "'adam\\x00' isn't a chain: it contains a null character."),
        ("adam | 3", "'3' at character 8 of 'adam | 3'" + NO_RULE),
        ("adam, sgd", "'adam, sgd' at character 1 of 'adam, sgd'" + NO_RULE),
        ("steepest.adam()",
         "'steepest.adam()' at character 1 of 'steepest.adam()' isn't a rule or recipe. Write it without 'steepest.': adam()."),
        ("adam | 'sgd'", "\"'sgd'\" at character 8 of \"adam | 'sgd'\" isn't a rule or recipe. Write rules without quotes."),
        ("adam(lr=1, lr=2)", "character 12 of 'adam(lr=1, lr=2)': lr is given twice. Remove one."),
        ("adam(lr==1)",
         "'lr==1' at character 6 of 'adam(lr==1)' is a comparison. Pass an argument with one =, as in adam(lr=1e-3)."),
        ("only('*.bias')", "only needs a rule first: only(add_decayed_weights(0.01), '*.bias')."),
        ("cosine(1, 5)", "'cosine(1, 5)' at character 1 of 'cosine(1, 5)': " + SCHEDULE),
        ("adam(**{})", "'{}' at character 8 of 'adam(**{})': ** can't be used here. Write the arguments out."),
        ("adam(*(1, 2))", "'*(1, 2)' at character 6 of 'adam(*(1, 2))'" + NOT_ALLOWED),
        ("adam('a' * 10**9)", "'10**9' at character 12 of \"adam('a' * 10**9)\"" + NOT_ALLOWED),
        ("adam('a' * 99)", "\"'a' * 99\" at character 6 of \"adam('a' * 99)\": calculations can use only numbers."),
        ("adam(eps=1 / 0)", "'1 / 0' at character 10 of 'adam(eps=1 / 0)': division by zero."),
        ("adam(lr=-1)", "adam: lr must be >= 0, got -1."),
        ("adam(betas=(0.9, 1.0))", "adam: betas[1] must be in [0, 1), got 1.0. At 1.0 the average never forgets its "
         "initial value."),
        ("adam(lrr=1)",
         "adam: unknown argument 'lrr'. Did you mean 'lr'? Known: amsgrad, betas, decoupled_weight_decay, eps, lr, maximize, "
         "weight_decay."),
        ("only()", "only needs a rule first: only(add_decayed_weights(0.01), '*.bias')."),
        ("no_such.py:f", "no_such.py:f: there is no file no_such.py."),
        ("adam(cosine)", "'cosine' at character 6 of 'adam(cosine)'" + ARGUMENTS + "cosine(1e-3, steps=1000)."),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clip_by_norm(1) | ", "a rule is missing after the | at character 17." + RULE),
        ("| adam", "a rule is missing before the | at character 1." + RULE),
        ("sgd || ema", "a rule is missing after the | at character 5." + RULE),
        ("no_such.py:f |", "a rule is missing after the | at character 14." + RULE),
        ("lookahead(adam |)", "a rule is missing after the | at character 16." + RULE),
        ("lookahead(| adam, 5)", "a rule is missing before the | at character 11." + RULE),
        ("lookahead(adam || sgd)", "a rule is missing after the | at character 16." + RULE),
        ("only(adam |, '*.bias')", "a rule is missing after the | at character 11." + RULE),
        ("adam(lr=)", "a value is missing after the = at character 8"),
        ("sgd(cosine(1e-3, steps=), 0.9)", "a value is missing after the = at character 23"),
        ("adam(=1)", "the name of an argument is missing before the = at character 6. Write, for example, adam(lr=1e-3)"),
        ("adam(2=1)", "the name of an argument is missing before the = at character 7. Write, for example, adam(lr=1e-3)"),
        ("adam = 1", "the = at character 6 is outside of parentheses. Write arguments in parentheses: adam(lr=1e-3)"),
        ("adam(,)", "an argument is missing before the , at character 6"),
        ("adam(1e-3,,0.9)", "an argument is missing before the , at character 11"),
        ("adam(lr=1e-3 eps=1e-8)", "a comma is missing before 'eps' at character 14"),
        ("adam(betas=[0.9 0.999])", "a comma is missing before '0.999' at character 17"),
        ("adam(betas=0.9, 0.999)", "the argument '0.999' at character 17" + UNNAMED),
        ("adam(1 +)", "a number is missing after the + at character 8"),
        ("adam(lr=1e-3))", "the ) at character 14 has no opening (. Remove it, or add the ("),
        ("adam(betas=(0.9, 0.99]", "the ] at character 22 can't close the ( at character 12"),
        ("lookahead(adam(lr=1, k=5)", "the ( at character 10 is never closed"),
        ("only(adam, '*.bias)", "the quote at character 12 is never closed"),
        ("only(adam, *.bias)", "a value can't start with the * at character 12. Write a pattern in quotes: '*.bias'"),
        ("adam sgd", "'sgd' at character 6 isn't joined to the text before it. Write | between rules and ( ) around arguments"),
        ("adam\nsgd", "'sgd' at character 6 isn't joined to the text before it. Write | between rules and ( ) around arguments"),
        ("adam; sgd", "the ; at character 5 has no meaning in a chain. Join rules by |"),
        ("adam # | sgd", "the # at character 6 has no meaning in a chain. Join rules by |"),
        ("adam $", "the $ at character 6 has no meaning in a chain"),
        ("adam{lr=1}", "the { at character 5 has no meaning in a chain. Write arguments in ( )"),
        ("adam(lr: 1)",
         "the : at character 8 has no meaning in a chain. Pass arguments with =. Write a recipe in a file as my_rules.py:name"),
        ("adam(lr=1e-3f)", "'1e-3f' at character 9 isn't a number"),
        ("adam(lr=007)", "'007' at character 9 isn't a number"),
        ("adam(if=1)", "'if' at character 6 isn't a rule, a value or the name of an argument"),
        ("adam(1e\N{MINUS SIGN}3)", "the \N{MINUS SIGN} at character 8 (U+2212) only looks like -. Type -"),
        ("adam \uff5c sgd", "the \uff5c at character 6 (U+FF5C) only looks like |. Type |"),
        ("adam(\u201cskip\u201d)", 'the \u201c at character 6 (U+201C) only looks like ". Type "'),
        ("adam\N{NO-BREAK SPACE}| sgd", "there is an invisible character (U+00A0) at character 5. Type a space, or remove it"),
        ("adam \N{RIGHTWARDS ARROW} sgd", "the \N{RIGHTWARDS ARROW} at character 6 (U+2192) has no meaning in a chain"),
    ],
)  # fmt: skip
def test_what_is_no_chain_is_pointed_at_by_its_first_character(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="isn't a chain") as caught:
        parse(text)
    assert str(caught.value) == f"{text.strip().replace(chr(10), ' ')!r} isn't a chain: {said}."


def test_of_a_long_chain_a_message_shows_the_neighbourhood() -> None:
    for text in ("sgd | " * 500, "adam(lr=" + "1" * 5000 + ")", "a" * 5000, "adam(" + "cosine(1, 2), " * 500 + "=1)"):
        with pytest.raises(ValueError, match="…") as caught:
            parse(text)
        assert len(str(caught.value)) < 450


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.sampled_from(" |(),=[]{}'\"*+-.:#1e\n\u2212\u00a0") | st.characters(), max_size=30), st.integers(0, 3)
)
def test_any_text_is_a_chain_or_refused_in_one_line(text: str, names: int) -> None:
    for name in ("adam", "lookahead(sgd", "lr=0.1")[:names]:
        text = text[: len(text) // 2] + name + text[len(text) // 2 :]
    try:
        parse(text)
    except (ValueError, TypeError) as error:
        assert "\n" not in str(error) and "invalid" not in str(error)


def test_a_chain_may_stand_on_several_lines() -> None:
    assert parse("adam(\n  1e-3,\n)\n  | ema(0.9)") == parse("adam(1e-3) | ema(0.9)")
    assert parse("only(adam, '#*')") == steepest.only(steepest.adam(), "#*")


def test_a_letter_of_another_alphabet_is_named() -> None:
    with pytest.raises(ValueError, match="unknown rule") as caught:
        parse("sgd | \N{CYRILLIC SMALL LETTER A}dam")
    assert str(caught.value).endswith(
        "Its letter 1 is CYRILLIC SMALL LETTER A (U+0430), which isn't a letter of the library's names."
    )


def test_every_schedule_has_an_example_that_can_be_read() -> None:
    assert _EXAMPLES.keys() == _SCHEDULES.keys()
    for name, arguments in _EXAMPLES.items():
        read(f"adam({name}({arguments}))")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("adamm", "character 1 of 'adamm': unknown rule or recipe 'adamm'. Did you mean 'adam'?"),
        ("sgd | look_ahead", "character 7 of 'sgd | look_ahead': unknown rule or recipe 'look_ahead'. Did you mean 'lookahead'?"),
        ("lookahead(adamm, 5)", "character 11 of 'lookahead(adamm, 5)': unknown rule or recipe 'adamm'. Did you mean 'adam'?"),
        ("adam(lr=cosin(1))", "character 9 of 'adam(lr=cosin(1))': unknown schedule 'cosin'. Did you mean 'cosine'?"),
        ("adam(stepz)", "character 6 of 'adam(stepz)': unknown value 'stepz'. Did you mean 'step'?"),
        ("adam(__import__('os'))", "character 6 of \"adam(__import__('os'))\": unknown schedule '__import__'."),
        ("sgd('µ', oops)", "character 10 of \"sgd('µ', oops)\": unknown value 'oops'."),
    ],
)  # fmt: skip
def test_an_unknown_name_gets_its_place_and_the_nearest_known_one(text: str, start: str) -> None:
    with pytest.raises(ValueError, match="unknown") as caught:
        parse(text)
    assert str(caught.value).startswith(start)


@pytest.mark.parametrize(
    "text", ["(" * 5000 + "adam" + ")" * 5000, "adam(" + "-" * 5000 + "1)", "adam(0" + "+1" * 5000 + ")"]
)
def test_deep_nesting_is_refused_and_not_a_crash(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested|parentheses"):
        parse(text)


def test_a_list_is_split_at_top_level_commas_only() -> None:
    assert split_list("adam,clip_by_value(-1, 1) | sgd, my_rules.py:cautious,,") == [
        "adam",
        "clip_by_value(-1, 1) | sgd",
        "my_rules.py:cautious",
    ]
    assert split_list("only(sgd, 'a,b'), lamb") == ["only(sgd, 'a,b')", "lamb"]


@pytest.mark.parametrize("steps", [20, 400])
def test_all_optimizers_are_every_optimizer_clip_wrapper_and_kind_of_schedule(steps: int) -> None:
    for name in EVERYTHING:
        parse(name, {"lr": centre(name), "steps": steps})
    said = " ".join(EVERYTHING)
    kinds = set(schedules.__all__) - {"Schedule", "from_json", "constant", "join", "scale", "piecewise", "warmup"}
    missing = [
        n for n in (*steepest.OPTIMIZERS, *steepest.CLIPS, *steepest.WRAPPERS, *kinds) if n not in said
    ]  # constant is every plain name, piecewise the general multi_step; a warm-up is an argument of cosine and wsd
    assert missing == []


@pytest.mark.parametrize(
    "text",
    [
        "clip_by_global_norm(1.0, inf, 'skip') | only(adamw(betas=(0.8, 0.9)), '*.weight') | descend(1) | ema(0.9)",
        "lookahead(exclude(add_decayed_weights(0.1), '*.bias', max_ndim=1) | adam(amsgrad=True), k=6)",
        "sgd(join((0.1, warmup(3, scale(cosine(0.1, 20), 0.5))), (5,)), momentum=0.9)",
        "sgd(ReduceOnPlateau(0.1, patience=2))",
    ],
)
def test_the_python_of_a_text_makes_the_same_chain(text: str) -> None:
    made = read(text)
    again = eval(made.python, {"steepest": steepest})
    assert list(map(repr, again)) == list(map(repr, made.chain))  # a plateau equals itself alone


def test_a_users_recipe_gets_the_rate_and_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("FACTOR = 2\n")
    (tmp_path / "my_rules.py").write_text(
        "import steepest\nfrom beside import FACTOR\n"
        "def mine(lr=0.5):\n    return steepest.sgd(FACTOR * lr)\n"
        "def fixed():\n    return steepest.sgd(0.125)\n"
    )
    assert parse(f"{tmp_path / 'my_rules.py'}:mine", {"lr": 0.25}) == steepest.sgd(0.5)
    assert parse(f"{tmp_path / 'my_rules.py'}:mine") == steepest.sgd(1.0)
    assert parse(f"{tmp_path / 'my_rules.py'}:fixed", {"lr": 0.25}) == steepest.sgd(0.125)
    chain = f"clip_by_value(-1, 1) | {tmp_path / 'my_rules.py'}:mine | ema(0.9)"
    assert parse(chain, {"lr": 0.25}) == steepest.chain(
        steepest.clip_by_value(-1, 1), steepest.sgd(0.5), steepest.ema(0.9)
    )
    assert centre(chain) == 0.5


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import steepest\n\nx = nothing\n", ":3: NameError: name 'nothing' is not defined"),
        ("def mine(:\n", ":1: SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(3)\n", ":2: SystemExit: 3"),
        ("def mine(lr=1):\n    return lr / 0\n", ":2: ZeroDivisionError: "),
        ("import steepest\ndef mine(lr=1):\n    return steepest.sgd(-1)\n", ":3: sgd: lr must be >= 0, got -1."),
        ("def other():\n    pass\n", ": unknown recipe 'mine'. Known: other."),
        (
            "def mine():\n    return 3\n",
            ":mine: the recipe must return a chain, got 3. Return the result of steepest.chain(…).",
        ),
    ],
)
def test_a_mistake_in_a_users_file_names_its_line(tmp_path: Path, source: str, message: str) -> None:
    file = tmp_path / "my_rules.py"
    file.write_text(source)
    with pytest.raises((ValueError, TypeError)) as caught:
        parse(f"{file}:mine")
    assert str(caught.value).startswith(f"{file}{message}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\nx / 0\n", "{name}:2: ZeroDivisionError: division by zero"),
        ("import nowhere_at_all\n", "{name}:1: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("x = (\n", "{name}:1: SyntaxError: '(' was never closed"),
        ("import steepest\nsteepest.sgd(-1)\n", "{name}:2: sgd: lr must be >= 0, got -1."),
        ("import json\n\njson.loads('{')\n", "{name}:3: JSONDecodeError: Expecting property name"),
        ("circle = 1\n", "{module}: unknown name 'circles'. Did you mean 'circle'? Known: circle."),
    ],
)
@pytest.mark.parametrize("kind", ["file", "module"])
def test_a_mistake_in_a_users_module_names_its_line(
    kind: str, source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"theirs_{abs(hash((source, str(tmp_path))))}"
    (tmp_path / f"{name}.py").write_text(source)
    module = f"{name}.py" if kind == "file" else name
    with pytest.raises(ValueError, match="theirs") as caught:
        module_of(module, "circles")
    assert str(caught.value).startswith(message.format(name=f"{name}.py", module=module))


def test_a_module_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="there") as caught:
        module_of("nowhere_at_all.train", "circles")
    assert (
        str(caught.value) == "nowhere_at_all.train: there is no module nowhere_at_all, here or among those installed."
    )
    with pytest.raises(ValueError, match="there") as caught:
        module_of("gone.py", "circles")
    assert str(caught.value) == "gone.py:circles: there is no file gone.py."
