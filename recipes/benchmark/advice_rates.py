"""How often the advice of a study is wrong, on simulated scores with known gains."""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from keras_fdkd.study import Gain
from keras_fdkd.study.advice import UNDECIDED, USE, WITHOUT, decide
from recipes.shared.markdown import table

OVERLAP = 0.25  # A fifth is tested.
GAINS = ((0.0,), (0.0,) * 4, (0.01,) * 4, (0.03, 0.0, 0.0, 0.0), (0.03,) * 4, (-0.02,) * 4)
MARGINS = (0.0, 0.01)


def simulated(
    gains: Sequence[float], splits: int, noise: float, count: int, seed: int = 0
) -> Iterator[dict[str, Gain]]:
    """Yield what studies would find: differences of splits that share training samples.

    Errors of two splits have the correlation `n_test / (n_test + n_train)`, which is what the
    corrected resampled t test takes them to have.

    Args:
        gains: True gain of each method.
        splits: Of a study.
        noise: Standard deviation of the difference in a split.
        count: Of studies.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    shared = np.sqrt(OVERLAP / (1 + OVERLAP))
    for _ in range(count):
        yield {
            f"method {i}": Gain.of(
                gain
                + noise * shared * rng.normal()
                + noise * np.sqrt(1 - shared**2) * rng.normal(size=splits),
                OVERLAP,
            )
            for i, gain in enumerate(gains)
        }


def wrong(kind: str, method: str, gains: Sequence[float], margin: float) -> bool:
    """Whether advice is wrong: a method that gains too little, or none where one gains enough."""
    if kind == USE:
        return gains[int(method.split()[1])] <= margin
    return kind == WITHOUT and max(gains) > margin


def lines(splits: int, noise: float, count: int) -> list[tuple[str, ...]]:
    """Return a line for each pair of true gains and a margin."""
    found = []
    for gains in GAINS:
        for margin in MARGINS:
            advice = [decide(one, margin) for one in simulated(gains, splits, noise, count)]
            kinds = Counter(kind for kind, _ in advice)
            errors = np.mean([wrong(*one, gains, margin) for one in advice])
            shares = (kinds[kind] / count for kind in (USE, WITHOUT, UNDECIDED))
            points = ", ".join(f"{100 * gain:+g}" for gain in gains)
            found.append((points, f"{100 * margin:g}", *(f"{100 * s:.1f}" for s in shares),
                          f"{100 * errors:.1f}"))  # fmt: skip
    return found


def main(arguments: list[str] | None = None) -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(
        "python -m recipes.benchmark.advice_rates",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--splits", type=int, default=5, help="of each study")
    add("--noise", type=float, default=0.015, help="of a split's difference")
    add("--count", type=int, default=10_000, help="of studies")
    add("--output", type=Path, default=Path("runs/advice.md"), help="file")
    options = parser.parse_args(arguments)
    head = (
        "true gains, points", "margin, points", "use, %", "without, %", "undecided, %", "wrong, %",
    )  # fmt: skip
    text = [
        "# How often a study's advice is wrong",
        "",
        f"{options.count:,} simulated studies of {options.splits} splits for each line; a "
        f"difference in a split has a standard deviation of {100 * options.noise:g} points. Wrong "
        "is to use a method whose gain is at most the margin, or to train without distillation "
        "where a method gains more. Both are to happen in at most 5 %.",
        "",
        *table(head, lines(options.splits, options.noise, options.count)),
    ]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
