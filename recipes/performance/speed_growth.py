"""How the time of the band terms grows with each size: a plot, and a table of prime sizes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from recipes.shared.markdown import table

_SIZES = "feature size"  # the panel whose sizes are not all powers of two


def growth(figures: Mapping[str, Any], backends: list[str], folder: Path) -> list[str]:
    """Draw `growth.png` and return the lines of its section, none if nothing was measured."""
    found = {name: figures[name]["growth"][0] for name in backends if "growth" in figures[name]}
    if not found:
        return []
    _draw(found, folder / "growth.png")
    sizes = {
        backend: {int(n): seconds for n, seconds in curves[_SIZES].items()}
        for backend, curves in found.items()
    }
    beside = {n: 2 ** round(np.log2(n)) for n in sorted(next(iter(sizes.values()))) if _is_prime(n)}
    rows = [
        (backend, *(f"{of[prime] / of[power]:.2f}" for prime, power in beside.items()))
        for backend, of in sizes.items()
    ]
    return [
        "## Growth",
        "",
        "![time against sizes](growth.png)",
        "",
        "A prime feature size against the power of two beside it:",
        "",
        *table(("backend", *(f"{prime} / {power}" for prime, power in beside.items())), rows),
    ]


def _draw(found: Mapping[str, Any], path: Path) -> None:
    panels = list(next(iter(found.values())))
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3.5), sharey=True)
    for axis, panel in zip(axes, panels, strict=True):
        for backend, curves in found.items():
            points = sorted((int(n), 1e3 * seconds) for n, seconds in curves[panel].items())
            power = [p for p in points if panel != _SIZES or not _is_prime(p[0])]
            [line] = axis.plot(*zip(*power, strict=True), marker="o", label=backend)
            if prime := [p for p in points if p not in power]:
                axis.plot(*zip(*prime, strict=True), "x", color=line.get_color())
        axis.set_xscale("log", base=2)
        axis.set(yscale="log", xlabel=panel)
    axes[0].set_ylabel("ms, one thread (x: prime sizes)")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _is_prime(size: int) -> bool:
    """Whether a size is one of the primes, which are no powers of two."""
    return bool(size & (size - 1))
