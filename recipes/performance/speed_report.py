"""The report of `speed`: ratios with their spread, targets, and a plot of the growth."""

from pathlib import Path
from typing import Any

import numpy as np

from recipes.performance.speed_growth import growth
from recipes.shared.markdown import table

# Names of `recipes.performance.speed_trainers`, which needs a backend.
LIMIT, AGAIN, WAITING = "limit", "limit, a second one", "limit that waits"
OURS, KERAS = "FrequencyDistiller", "keras.distillation"
SAME, TERMS = "CrossModalDistiller, loss of keras.distillation", "terms alone"
ALONE, CACHED = "student alone", "FrequencyDistiller, cached teacher"
ALONE_SET = "student alone, data set"
DATA_SETS = ("cached teacher, data set", "cached teacher, data set with index")
PAIRS = {
    "resnet": "small ResNets, 32x32",
    "hub": "KerasHub ResNet-18, 64x64",
    "deeplab": "DeepLabV3+ of ResNet-18, 64x64, 2-D bands",
    "speech": "two layers of GRUs, 100 masked frames",
    "maps": "small segmenters, 2-D bands",
    "masked": "small masked GRUs",
    "tiny": "MLPs of three layers",
}
AT_MOST = {name: 1.25 if name == "tiny" else 1.05 for name in PAIRS}
CACHED_AT_MOST = 1.10
TWO, TWO_LIMIT, TWO_AT_MOST = "two teachers", "limit of two teachers", 1.05
FASTER = {"jax": 1.2, "torch": 1.5, "tensorflow": 1.5}
ASSEMBLY_AT_MOST = {"jax": 1.5, "torch": 2.5, "tensorflow": 1.5}


def ratio(first: list[float], second: list[float]) -> tuple[float, float, float]:
    """Return the quartiles of the ratios of two trainers, round by round: median, lower, upper."""
    ratios = np.array(first) / np.array(second)
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return float(middle), float(low), float(high)


def write_report(figures: dict[str, Any], folder: Path) -> list[str]:
    """Write `speed.md` and `growth.png` of all figures, and return the lines of the report."""
    backends = [name for name in figures if name not in ("machine", "processors")]
    lines = ["# What distillation costs", ""]
    lines += [f"- {name}: {value}" for name, value in figures.get("machine", {}).items()]
    lines += [f"- of {processor}: {tasks}" for processor, tasks in _elsewhere(figures).items()]
    lines += ["", *_steps(figures, backends), *_memory(figures, backends)]
    lines += _assembly(figures, backends)
    lines += growth(figures, backends, folder)
    (folder / "speed.md").write_text("\n".join(lines))
    return lines


def _elsewhere(figures: dict[str, Any]) -> dict[str, str]:
    """Return the tasks that ran on another processor than the last one, by processor."""
    here, found = figures.get("machine", {}).get("processor"), {}
    for task, processor in figures.get("processors", {}).items():
        if processor != here:
            found.setdefault(processor, []).append(task)
    return {processor: "; ".join(tasks) for processor, tasks in found.items()}


def _cell(first: list[float], second: list[float], at_most: float | None = None) -> str:
    middle, low, high = ratio(first, second)
    judged = "" if at_most is None else f" {_verdict(middle <= at_most)}"
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]{judged}"


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "**missed**"


def _steps(figures: dict[str, Any], backends: list[str]) -> list[str]:
    lines = [
        "## Steps",
        "",
        "Medians of the ratios of one round, with their quartiles. The limit is one pass of the "
        "teacher and one plain step of the student in the same trainer; the second limit is the "
        "same thing once more, so what differs from 1 there is noise. Nothing but the value of its "
        "loss depends on the teacher, so that TensorFlow computes both models side by side; in the "
        "limit that waits, the student's gradients depend on the teacher, as in any distillation.",
        "",
    ]
    for pair, title in PAIRS.items():
        rows, bounds, sets, twos = [], [], [], []
        for backend in backends:
            if f"steps {pair}" not in figures[backend]:
                continue
            [seconds] = figures[backend][f"steps {pair}"]
            faster = ratio(seconds[KERAS], seconds[OURS])
            verdict = _verdict(faster[0] >= FASTER[backend])
            rows.append(
                (
                    backend,
                    f"{1e3 * np.median(seconds[LIMIT]):.1f} ms",
                    _cell(seconds[AGAIN], seconds[LIMIT]),
                    _cell(seconds[OURS], seconds[LIMIT], AT_MOST[pair]),
                    _cell(seconds[OURS], seconds[WAITING]) if WAITING in seconds else "",
                    f"{faster[0]:.2f} [{faster[1]:.2f}, {faster[2]:.2f}] {verdict}",
                    _cell(seconds[CACHED], seconds[ALONE], CACHED_AT_MOST),
                )
            )
            if TERMS in seconds:
                bounds.append((backend, *_bounds(seconds)))
            if TWO in seconds:
                twos.append((backend, _cell(seconds[TWO], seconds[TWO_LIMIT], TWO_AT_MOST)))
            if ALONE_SET in seconds:
                sets.append(
                    (backend, *(_cell(seconds[name], seconds[ALONE_SET]) for name in DATA_SETS))
                )
        if rows:
            head = (
                "backend",
                "limit",
                "second limit / limit",
                f"ours / limit ({AT_MOST[pair]})",
                "ours / limit that waits",
                "keras.distillation / ours",
                f"cached / student alone ({CACHED_AT_MOST})",
            )
            lines += [f"### {title}", "", *table(head, rows)]
        if bounds:
            lines += [
                "What bounds them. A distiller must wait for its teacher. One that cost no more "
                "than the limit would be as many times as fast as `keras.distillation` as the "
                "second column says. The terms alone are a call of their own, compiled on JAX and "
                "TensorFlow, the way into it included.",
                "",
                *table(BOUNDS, bounds),
            ]
        if twos:
            lines += [
                "Two teachers, against the passes of both and a plain step of the student:",
                "",
                *table(("backend", f"ours / limit ({TWO_AT_MOST})"), twos),
            ]
        if sets:
            lines += [
                "A cached teacher joined to a `PyDataset`, against the student alone on one:",
                "",
                *table(("backend", *DATA_SETS), sets),
            ]
    return lines


BOUNDS = (
    "backend",
    "limit that waits / limit",
    "keras.distillation / limit",
    "keras.distillation / ours with its loss",
    "terms alone",
    "(limit + terms) / limit",
    "(student alone + terms) / student alone",
)


def _bounds(seconds: dict[str, list[float]]) -> tuple[str, ...]:
    """Return the cells of a row of `BOUNDS`."""
    limit, alone, terms = (float(np.median(seconds[name])) for name in (LIMIT, ALONE, TERMS))
    return (
        _cell(seconds[WAITING], seconds[LIMIT]),
        _cell(seconds[KERAS], seconds[LIMIT]),
        _cell(seconds[KERAS], seconds[SAME]) if SAME in seconds else "",
        f"{1e3 * terms:.2f} ms",
        f"{1 + terms / limit:.2f}",
        f"{1 + terms / alone:.2f}",
    )


def _memory(figures: dict[str, Any], backends: list[str]) -> list[str]:
    rows = []
    for backend in backends:
        peaks = {
            name: _peak(figures[backend], f"memory {name}")
            for name in (LIMIT, OURS, KERAS, ALONE)
            if f"memory {name}" in figures[backend]
        }
        if peaks:
            verdict = _verdict(peaks[OURS] <= 1.05 * peaks[LIMIT])
            rows.append(
                (
                    backend,
                    f"{peaks[LIMIT] / 1e6:.0f} MB",
                    f"{peaks[OURS] / peaks[LIMIT]:.3f} {verdict}",
                    f"{peaks[KERAS] / peaks[LIMIT]:.3f}",
                    f"{peaks[ALONE] / peaks[LIMIT]:.3f}",
                )
            )
    if not rows:
        return []
    plain = []
    for backend in backends:
        if f"plain {OURS}" in figures[backend]:
            least, peak = (_peak(figures[backend], f"plain {name}") for name in (LIMIT, OURS))
            plain.append(
                f"With `XLA_FLAGS=--xla_cpu_use_fusion_emitters=false`, ours / limit on {backend} "
                f"is {peak / least:.3f} of {least / 1e6:.0f} MB."
            )
    head = (
        "backend",
        "limit",
        "ours / limit (1.05)",
        "keras.distillation / limit",
        "alone / limit",
    )
    count = min(len(figures[name][f"memory {LIMIT}"]) for name, *_ in rows)
    return [
        "## Peak memory of the process",
        "",
        f"Small ResNets, ten steps; medians of {count} processes each.",
        "",
        *table(head, rows),
        *plain,
        "",
    ]


def _peak(figures: dict[str, Any], task: str) -> float:
    return float(np.median([run["bytes"] for run in figures[task]]))


def _assembly(figures: dict[str, Any], backends: list[str]) -> list[str]:
    rows = []
    for backend in backends:
        if "assembly" in figures[backend]:
            [found] = figures[backend]["assembly"]
            low, middle, high = 1e3 * np.percentile(found["seconds"], [25, 50, 75])
            most = ASSEMBLY_AT_MOST[backend]
            verdict = _verdict(middle <= most)
            rows.append((backend, f"{middle:.2f} [{low:.2f}, {high:.2f}] {verdict}", f"{most}"))
    if not rows:
        return []
    return [
        "## The terms alone",
        "",
        "Both bands, standardized, and four cross-entropies, forward and backward: 64 samples of "
        "512, six classes, one thread; JAX and TensorFlow compiled, PyTorch eager.",
        "",
        *table(("backend", "ms", "at most"), rows),
    ]
