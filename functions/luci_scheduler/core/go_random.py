"""The first number of Go's ``math/rand`` for a seed, the original's only use of a seeded generator."""

from __future__ import annotations

__all__ = ["first_fraction"]

# The constants of Go's seeding, a Lehmer generator (math/rand/rng.go, seedrand and Seed).
_MODULUS = (1 << 31) - 1
_MULTIPLIER = 48_271
_SEED_OF_ZERO = 89_482_311
_WARM_UP = 20  # numbers that Go skips first
_MASK = (1 << 63) - 1
# The generator adds two of its 607 words for each number. The first number uses these two. Go mixes each word with a
# constant (math/rand/rng.go, rngCooked; 63 bits of it matter).
_WORDS = {333: 4_590_000_184_845_883_843, 606: 4_152_330_101_494_654_406}


def first_fraction(seed: int) -> float:
    """Return the value of Go's ``rand.New(rand.NewSource(seed)).Float64()``: at least 0, at most 1."""
    return (sum(_word(seed, index, constant) for index, constant in _WORDS.items()) & _MASK) / (1 << 63)


def _word(seed: int, index: int, constant: int) -> int:
    """Return one word of the seeded generator: three numbers of a Lehmer generator, mixed with the constant."""
    # Skip the warm-up and the three numbers of each earlier word in one step.
    number = (seed % _MODULUS or _SEED_OF_ZERO) * pow(_MULTIPLIER, _WARM_UP + 3 * index, _MODULUS) % _MODULUS
    word = 0
    for shift in (40, 20, 0):
        number = number * _MULTIPLIER % _MODULUS
        word ^= number << shift
    return word ^ constant
