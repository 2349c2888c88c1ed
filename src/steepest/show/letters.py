"""The letters in which a step is written: those of the papers for the names that they have letters for, words for the rest."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LOCALS", "NUMBERS", "RATIOS", "STATES", "TEMPORARIES", "UPDATES", "Symbol", "upright", "word"]


@dataclass(frozen=True, slots=True)
class Symbol:
    """A letter with what stands below and above it; ``accent`` stands on the letter alone."""

    letter: str
    below: str = ""
    above: str = ""
    accent: str = ""

    def at(self, time: str) -> str:
        letter = f"{{\\{self.accent}{{{self.letter}}}}}" if self.accent else self.letter
        below = ",".join(filter(None, [self.below, time]))
        # One letter needs no braces, and reads better without.
        below = below if not below or (len(below) == 1 or below == r"\infty") else f"{{{below}}}"
        above = f"^{{{self.above}}}" if self.above else ""
        return letter + (f"_{below}" if below else "") + above


STATES = {
    "param": Symbol(r"\theta"),
    "exp_avg": Symbol("m"),
    "exp_avg_sq": Symbol("v"),
    "max_exp_avg_sq": Symbol("v", above=r"\max"),
    "exp_inf": Symbol("u"),
    "momentum_buffer": Symbol("b"),
    "square_avg": Symbol("v"),
    "grad_avg": Symbol("g", accent="bar"),
    "acc_delta": Symbol("u"),
    "sum": Symbol("G"),
    "mu_product": Symbol("M"),
    "slow": Symbol(r"\phi"),
    "average": Symbol(r"\theta", accent="bar"),
}
NUMBERS = {
    "lr": Symbol(r"\eta"),
    "beta1": Symbol(r"\beta", "1"),
    "beta2": Symbol(r"\beta", "2"),
    "eps": Symbol(r"\varepsilon"),
    "weight_decay": Symbol(r"\lambda"),
    "momentum": Symbol(r"\mu"),
    "dampening": Symbol(r"\tau"),
    "momentum_decay": Symbol(r"\psi"),
    "lr_decay": Symbol(r"\delta"),
    "decay": Symbol(r"\beta"),
    "trust_coefficient": Symbol(r"\kappa"),
    "max_norm": Symbol("c"),
    "threshold": Symbol("c"),
    "clipping": Symbol("c"),
    "interval": Symbol("k"),
}
LOCALS = {
    "rectifier": Symbol("r"),
    "rho_inf": Symbol(r"\rho", r"\infty"),
    "mu_next": Symbol(r"\mu", above=r"\prime"),
    "kept": Symbol(r"\beta", above=r"\prime"),
    "limit": Symbol(r"\ell"),
    "average": Symbol(r"\theta", accent="tilde"),
}
_GREEK = {
    "alpha", "beta", "gamma", "delta", "zeta", "eta", "theta", "kappa", "lambda", "mu", "nu", "xi", "pi", "rho", "sigma",
    "tau", "phi", "chi", "psi", "omega",
}  # fmt: skip
UPDATES = [Symbol("g", accent="tilde"), Symbol("g", accent="check"), Symbol("g", accent="breve")]
TEMPORARIES = [Symbol(letter) for letter in ("u", "d", "w", "y", "z", "q", "h")]
RATIOS = [Symbol(letter) for letter in ("r", "s", "a", "e", "f")]


def word(name: str) -> Symbol:
    if name in _GREEK:
        return Symbol(f"\\{name}")
    return Symbol(name if len(name) == 1 else upright(name))


def upright(name: str) -> str:
    return rf"\mathrm{{{name}}}".replace("_", r"\_")
