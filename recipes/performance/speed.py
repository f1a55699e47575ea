"""What distillation costs: time and memory beside the models themselves, on three backends.

Each measurement runs in a fresh process; trainers that are compared take turns in one process.
The figures of finished measurements stay in `speed.json` of the output folder, whose report and
plot are written again each time.
"""

import argparse
import contextlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from recipes.performance.fresh_process import hand_back, run_worker
from recipes.performance.speed_report import PAIRS, write_report

BACKENDS = ("jax", "torch", "tensorflow")
MEASURED = ("limit", "FrequencyDistiller", "keras.distillation", "student alone")
TASKS = {
    "steps": tuple(f"steps {pair}" for pair in PAIRS),
    # Some times each: a peak varies from process to process.
    "memory": tuple(f"memory {trainer}" for trainer in MEASURED) * 3,
    "plain": tuple(f"plain {trainer}" for trainer in MEASURED[:2]) * 3,
    "assembly": ("assembly",),
    "growth": ("growth",),
}
ONLY = {"plain": ("jax",)}


def main(arguments: list[str] | None = None) -> None:
    """Measure what is asked for and write the report of all there is."""
    parser = argparse.ArgumentParser("python -m recipes.performance.speed", description=__doc__)
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--parts", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--output", type=Path, default=Path("runs/speed"), help="folder")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        from recipes.performance.speed_worker import measure

        hand_back(measure(options.worker))
        return
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "speed.json"
    figures = json.loads(file.read_text()) if file.exists() else {}
    machine = _machine()
    for part in options.parts:
        for task in dict.fromkeys(TASKS[part]):
            for backend in [name for name in options.backends if name in ONLY.get(part, BACKENDS)]:
                print(f"{backend}: {task}", flush=True)
                environment = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
                found = [
                    run_worker("recipes.performance.speed", "--worker", task, **environment)
                    for _ in range(TASKS[part].count(task))
                ]
                figures.setdefault(backend, {})[task] = found
                figures["machine"] = machine
                # Figures of several machines may meet in one file; ratios must not.
                figures.setdefault("processors", {})[f"{backend}: {task}"] = machine["processor"]
                file.write_text(json.dumps(figures) + "\n")
    print("\n".join(write_report(figures, options.output)))


def _machine() -> dict[str, str]:
    """Return what the figures depend on."""
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(": ")[2]
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    packages = ("keras", "jax", "torch", "tensorflow", "tensorflow-cpu", "keras-hub", "numpy")
    versions = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "processor": f"{os.cpu_count()} x {names[0] if names else platform.processor()}",
        "python": platform.python_version(),
        **versions,
    }


if __name__ == "__main__":
    main()
