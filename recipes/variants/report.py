"""The table of the variants: what each brought over the student alone."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from recipes.shared.markdown import table


def report(rows: list[dict[str, Any]]) -> list[str]:
    """Return a table of all variants on the seeds that all have, and one of those with more."""
    seeds: dict[str, set[int]] = {}
    for row in rows:
        seeds.setdefault(row["task"]["variant"], set()).add(row["task"]["seed"])
    common, most = set.intersection(*seeds.values()), max(seeds.values(), key=len)
    lines = [f"## All variants, seeds {sorted(common)}", "", *_differences(rows, seeds, common)]
    if most != common:
        chosen = [variant for variant in seeds if seeds[variant] >= most]
        lines += [f"## Some variants, seeds {sorted(most)}", "", *_differences(rows, chosen, most)]
    return lines


def _differences(rows: list[dict[str, Any]], variants: Iterable[str], seeds: set[int]) -> list[str]:
    accuracy: dict[tuple, dict[str, float]] = {}
    for row in rows:
        task = row["task"]
        if task["seed"] in seeds:
            place = task["experiment"], task["student"], task["budget"]
            values = accuracy.setdefault((place, task["seed"]), {})
            values[task["variant"]] = 100 * row["validation_accuracy"]
    places = sorted({place for place, _ in accuracy})
    lines = []
    for variant in variants:
        cells = []
        for place in places:
            found = [
                values[variant] - values["student alone"]
                for (other, _), values in accuracy.items()
                if other == place and variant in values
            ]
            cells.append(float(np.mean(found)) if found else float("nan"))
        lines.append((float(np.mean(cells)), variant, cells))
    # NaN would upset the order: variants without a mean come last.
    lines.sort(key=lambda line: (np.isnan(line[0]), -line[0]))
    head = ("variant", "mean", *(f"{e} to {s}, {b}" for e, s, b in places))
    return table(
        head,
        [
            (variant, *("" if np.isnan(cell) else f"{cell:+.1f}" for cell in (mean, *cells)))
            for mean, variant, cells in lines
        ],
    )
