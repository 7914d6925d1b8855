"""What the sliders of the latent explorer say, and how an address holds it. No torch in here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np

from src.utils.errors import UserError

Mode = Literal["normal", "standard", "prior", "exact"]
MODES: tuple[Mode, ...] = get_args(Mode)
# Numbers farther from 0 are refused, and seeds and classes from here on.
LARGEST, SEEDS = 1e4, 2**31
# The noise of z and a new μ come from the same seed and must not be the same numbers.
NOISE, CENTRES = 0, 1
# The lists of numbers, and what each of them is where an address says nothing.
LISTS = {"mu": 0.0, "sigma": 1.0, "z": 0.0}
# Which of them say anything, by mode.
LISTED = {"normal": ("mu", "sigma"), "exact": ("z",)}


@dataclass(frozen=True)
class Sliders:
    """Where z comes from.

    Attributes:
        mu: (D,) of mode ``normal``.
        sigma: likewise, not negative.
        z: (D,) of mode ``exact``.
        mode: ``normal`` N(μ, σ²), ``standard`` N(0, I), ``prior`` the model's own p(z), ``exact`` z as it is given.
        seed: of the noise.
        fixed: whether the noise stays what it is while a slider moves.
        label: the class that a conditional model is given; −1 where it is unknown.
    """

    mu: tuple[float, ...]
    sigma: tuple[float, ...]
    z: tuple[float, ...]
    mode: Mode = "normal"
    seed: int = 0
    fixed: bool = True
    label: int = -1

    @classmethod
    def start(cls, count: int) -> "Sliders":
        """One draw of N(0, I) in ``count`` dimensions."""
        mu, sigma, z = ((value,) * count for value in LISTS.values())
        return cls(mu, sigma, z)

    @classmethod
    def read(cls, content: Mapping[str, Any], count: int) -> "Sliders":
        """What a browser has sent, or an address has said; what is missing is as at the start.

        Raises:
            UserError: a value is of the wrong kind, out of range, or not one for each of ``count`` dimensions.
        """
        known = [field.name for field in fields(cls)]
        found = replace(cls.start(count), **{key: content[key] for key in known if key in content})
        mu, sigma, z = (_numbers(getattr(found, name), name, count) for name in LISTS)
        if found.mode not in MODES:
            raise UserError(f"mode '{found.mode}' is unknown; choices: {', '.join(MODES)}")
        if min(sigma, default=0) < 0:
            raise UserError("σ cannot be negative")
        if not _whole(found.seed) or not 0 <= found.seed < SEEDS:
            raise UserError(f"seed {found.seed!r} is not a whole number from 0 to {SEEDS - 1}")
        if not _whole(found.label) or not -1 <= found.label < SEEDS:
            raise UserError(f"class {found.label!r} is not a whole number from -1, unknown, on")
        if not isinstance(found.fixed, bool):
            raise UserError("'fixed' must be true or false")
        return replace(found, mu=mu, sigma=sigma, z=z)

    def as_json(self) -> dict[str, Any]:
        """What ``read`` reads."""
        return asdict(self)

    def address(self) -> dict[str, str]:
        """What has to stand in an address to come here again; four digits of every number, nothing that is usual."""
        start = Sliders.start(len(self.mu))
        said = {
            name: _sparse(getattr(self, name), LISTS[name]) for name in LISTED.get(self.mode, ())
        }
        said |= {
            name: str(getattr(self, name)).lower()
            for name in ("mode", "seed", "fixed", "label")
            if getattr(self, name) != getattr(start, name)
        }
        return {name: text for name, text in said.items() if text}

    @classmethod
    def of_address(cls, said: Mapping[str, str], count: int) -> "Sliders":
        """The inverse of ``address``, up to the digits.

        Raises:
            UserError: what is said cannot be read, or as ``read``.
        """
        content: dict[str, Any] = {
            name: _dense(said[name], usual, name, count)
            for name, usual in LISTS.items()
            if name in said
        }
        for name in ("seed", "label"):
            if name in said:
                content[name] = _int(said[name], name)
        if "fixed" in said:
            content["fixed"] = {"true": True, "false": False}.get(said["fixed"])
        return cls.read(content | {"mode": said.get("mode", "normal")}, count)

    def noise(self) -> np.ndarray:
        """ε of the seed, (D,), standard normal."""
        return _normal(self.seed, NOISE, len(self.mu))

    def randomised(self) -> "Sliders":
        """With a μ drawn from N(0, I) by the seed, in mode ``normal``."""
        drawn = _normal(self.seed, CENTRES, len(self.mu))
        return replace(self, mode="normal", mu=tuple(drawn.round(2).tolist()))


def _normal(seed: int, stream: int, count: int) -> np.ndarray:
    return np.random.default_rng([stream, seed]).standard_normal(count)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _numbers(values: Any, name: str, count: int) -> tuple[float, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != count:
        raise UserError(f"{name} must be {count} numbers, one a dimension")
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not abs(value) <= LARGEST:  # nor NaN
            raise UserError(f"{name} must be numbers between {-LARGEST:g} and {LARGEST:g}")
    return tuple(float(value) for value in values)


def _sparse(values: Sequence[float], usual: float) -> str:
    """``dimension:value`` of all that is not as usual."""
    return ",".join(f"{i}:{value:.4g}" for i, value in enumerate(values) if value != usual)


def _dense(text: str, usual: float, name: str, count: int) -> list[float]:
    values = [usual] * count
    for place, value in _pairs(text, name):
        if not 0 <= place < count:
            raise UserError(f"{name} has no dimension {place}: there are {count}, from 0")
        values[place] = value
    return values


def _pairs(text: str, name: str) -> Iterator[tuple[int, float]]:
    for pair in filter(None, text.split(",")):
        place, _, value = pair.partition(":")
        try:
            yield int(place), float(value)
        except ValueError as error:
            raise UserError(f"{name} must be written as 0:1.2,5:-0.3, not '{pair}'") from error


def _int(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UserError(f"{name} must be a whole number, not '{text}'") from error
