"""What it takes to cache a teacher's outputs of ten million clips and to distil from them.

Bytes and rates of the cache are measured here; what only a cluster could tell is assumed, each
assumption an option. There is a process for each accelerator, which caches the part of the clips
that it trains on in a folder of its own: one folder is written by one process. Stages of a pipeline
run side by side, so the slowest sets the pace.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from recipes.shared.markdown import table

ACCELERATORS = (8, 64)


@dataclass(frozen=True)
class Assumed:
    """What is assumed of clips, models and machines."""

    clips: float = 10e6
    epochs: int = 30
    feature_size: int = 512
    batch: int = 64  # of an accelerator
    clip_megabytes: float = 1.0  # the teacher's input as stored, a compressed video
    decoded_megabytes: float = 2.4  # 16 frames of 224 x 224 in 8 bits
    sample_megabytes: float = 0.5  # the student's, a spectrogram of 128 x 1000
    decode_seconds: float = 0.1  # of one core for one clip
    teacher_gigaflop: float = 180.0  # forward: a video transformer of the size of ViT-B, 16 frames
    student_gigaflop: float = 5.0  # forward: a ResNet-18 on the spectrogram
    student_parameters: float = 12e6
    teraflops: float = 100.0  # of an accelerator, sustained
    cores: int = 12  # for each accelerator
    read_gigabytes: float = 0.5  # a second, of storage for each accelerator
    network_gigabytes: float = 25.0  # a second, of each accelerator


@dataclass(frozen=True)
class Measured:
    """What one process of this machine does with the cache.

    Attributes:
        bytes_a_clip: Of the files, float16.
        write_rows: Rows a second, to files that the system has yet to write to disk.
        take_rows: Rows a second at random, from files that the system holds in memory.
        index_rows: How many rows the next two figures are of.
        open_seconds: To open a cache of so many.
        open_megabytes: What the keys of so many hold in memory.
        hash_gigabytes: A second: of the teacher's inputs while caching, and of the student's if the
            data have no `"index"`.
    """

    bytes_a_clip: float
    write_rows: float
    take_rows: float
    index_rows: int
    open_seconds: float
    open_megabytes: float
    hash_gigabytes: float


def measure(rows: int, index_rows: int, size: int, batch: int) -> Measured:
    """Write, open and read caches, the median of several runs each."""
    from keras_fdkd.data.output_store import OutputStore
    from keras_fdkd.fingerprints import row_keys

    rng = np.random.default_rng(0)
    block = {"features": rng.normal(size=(2048, size)).astype("float16")}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = OutputStore(folder / "rows")
        with store.writing():
            writes = []
            for start in range(0, rows, 2048):
                keys = np.arange(start, start + 2048, dtype="uint64")
                writes.append(_seconds(lambda keys=keys: store.append(keys, keys, block)))
            store.complete()
        store.open()
        used = sum(path.stat().st_size for path in (folder / "rows").glob("*.bin"))
        takes = [
            _seconds(lambda keys=keys: store.take(keys))
            for keys in rng.integers(0, len(store.keys), size=(300, batch)).astype("uint64")
        ]
        large = OutputStore(folder / "index")
        # In random order, as hashes are: keys in order would be sorted faster.
        keys = rng.permutation(index_rows).astype("uint64")
        with large.writing():
            large.append(keys, keys, {"features": np.zeros(index_rows, "float16")})
            large.complete()
        opening = _seconds(large.open)
        held = [large.keys, large.inputs, large._order, large._sorted]
    spectrograms = rng.normal(size=(batch, 128, 1000)).astype("float32")
    hashes = [_seconds(lambda: row_keys(spectrograms)) for _ in range(5)]
    return Measured(
        bytes_a_clip=used / len(store.keys),
        write_rows=2048 / float(np.median(writes)),
        take_rows=batch / float(np.median(takes)),
        index_rows=index_rows,
        open_seconds=opening,
        open_megabytes=sum(array.nbytes for array in held) / 1e6,
        hash_gigabytes=spectrograms.nbytes / float(np.median(hashes)) / 1e9,
    )


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def stages(assumed: Assumed, measured: Measured, accelerators: int) -> dict[str, dict[str, float]]:
    """Return the seconds of each stage: of the pass that caches, and of an epoch after and without.

    Args:
        assumed: Of the cluster.
        measured: Of the cache, by each process.
        accelerators: How many.
    """
    a, each = assumed, assumed.clips / accelerators
    steps = each / a.batch
    read_clips, read_samples = (
        each * size / 1e3 / a.read_gigabytes for size in (a.clip_megabytes, a.sample_megabytes)
    )
    decoding = {"decoding clips": each * a.decode_seconds / a.cores}
    running = {"teacher": each * a.teacher_gigaflop / 1e3 / a.teraflops}
    student = {
        # The backward pass takes about twice the forward one.
        "student": each * 3 * a.student_gigaflop / 1e3 / a.teraflops,
        # Each weight goes out and comes in about twice in a ring.
        "averaging gradients": steps * 2 * 4 * a.student_parameters / 1e9 / a.network_gigabytes,
    }
    cached = {
        "reading the student's inputs": read_samples,
        **student,
        "reading the cache": each / measured.take_rows,
    }
    hashing, hashing_clips = (
        each * size / 1e3 / measured.hash_gigabytes
        for size in (a.sample_megabytes, a.decoded_megabytes)
    )
    return {
        "caching, with index": {
            "reading clips": read_clips,
            **decoding,
            **running,
            "hashing clips": hashing_clips,
            "writing the cache": each / measured.write_rows,
        },
        "an epoch, cached, with index": cached,
        "an epoch, cached, without index": {**cached, "hashing the student's inputs": hashing},
        "an epoch, not cached": {
            "reading both inputs": read_clips + read_samples,
            **decoding,
            "both models": student["student"] + running["teacher"],
            "averaging gradients": student["averaging gradients"],
        },
    }


def report(assumed: Assumed, measured: Measured) -> list[str]:
    """Return the lines of the page."""
    plans = {n: stages(assumed, measured, n) for n in ACCELERATORS}
    rows = []
    for phase in plans[ACCELERATORS[0]]:
        cells = []
        for plan in plans.values():
            slowest = max(plan[phase], key=plan[phase].__getitem__)
            cells += [_time(plan[phase][slowest]), slowest]
        rows.append((phase, *cells))
    totals = []
    for cached, phases in (
        (True, ("caching, with index", "an epoch, cached, with index")),
        (False, ("an epoch, not cached",)),
    ):
        cells = []
        for plan in plans.values():
            slowest = [max(plan[phase].values()) for phase in phases]
            # The pass that caches runs once.
            cells.append(_time(sum(slowest[:-1]) + assumed.epochs * slowest[-1]))
        totals.append((f"{assumed.epochs} epochs, {'cached' if cached else 'not cached'}", *cells))
    head = [f"{n} accelerators" for n in ACCELERATORS]
    gigabytes = assumed.clips * measured.bytes_a_clip / 1e9
    detail = [
        (phase, stage, *(_time(plan[phase][stage]) for plan in plans.values()))
        for phase in plans[ACCELERATORS[0]]
        for stage in plans[ACCELERATORS[0]][phase]
    ]
    return [
        f"# {assumed.clips:,.0f} clips",
        "",
        f"**Bytes.** {measured.bytes_a_clip:,.0f} a clip in float16, {gigabytes:,.1f} GB in all, "
        f"beside {assumed.clips * assumed.clip_megabytes / 1e6:,.1f} TB of clips and "
        f"{assumed.clips * assumed.sample_megabytes / 1e6:,.1f} TB of the student's inputs.",
        "",
        "**Time**, and what saturates first:",
        "",
        *table(("", head[0], "by", head[1], "by"), rows, words=(0, 2, 4)),
        *table(("in all", *head), totals),
        "Every stage:",
        "",
        *table(("", "stage", *head), detail, words=(0, 1)),
        "**Measured** on one process of this machine, with files that the system holds in memory:",
        "",
        *(f"- {name.replace('_', ' ')}: {value:,.4g}" for name, value in asdict(measured).items()),
        "",
        "**Assumed**, each an option of `recipes.performance.scale`; none of it was measured:",
        "",
        *(f"- {name.replace('_', ' ')}: {value:,.10g}" for name, value in asdict(assumed).items()),
    ]


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def main(arguments: list[str] | None = None) -> None:
    """Measure the cache and write the page."""
    parser = argparse.ArgumentParser(
        "python -m recipes.performance.scale",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    for field in fields(Assumed):
        name = f"--{field.name.replace('_', '-')}"
        add(name, type=type(field.default), default=field.default, help="assumed")
    add("--rows", type=int, default=204_800, help="of the measured cache")
    add("--index-rows", type=int, default=10_000_000, help="of the cache whose keys are measured")
    add("--output", type=Path, default=Path("runs/scale"), help="folder")
    options = parser.parse_args(arguments)
    assumed = Assumed(**{field.name: getattr(options, field.name) for field in fields(Assumed)})
    measured = measure(options.rows, options.index_rows, assumed.feature_size, assumed.batch)
    lines = report(assumed, measured)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "scale.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
