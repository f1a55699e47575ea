"""Shards of the watch recordings on disk, and a pipeline that reads them record by record."""

from pathlib import Path

import grain
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from recipes.shared.classification import BATCH_SIZE
from recipes.watch.data import MODALITIES, WINDOW, load_series

_CHANNELS = 6


def write_shards(
    folder: Path, subjects: set[int], step: int, shards: int = 8, data: Path | None = None
) -> int:
    """Write all windows of some subjects, label and signals, and return how many there are.

    Args:
        folder: Made if it is missing.
        subjects: Whose recordings to write.
        step: From one window to the next; windows overlap if it is below 200.
        shards: How many files.
        data: Folder of the recordings, if they are not in their package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [folder / f"watch-{n:03}-of-{shards:03}.array_record" for n in range(shards)]
    # Grain requires groups of one record for random access to be fast, and logs an error else.
    writers = [ArrayRecordWriter(str(name), "group_size:1") for name in names]
    count = 0
    for series, label, subject in load_series(data):
        if subject not in subjects:
            continue
        for start in range(0, len(series) - WINDOW + 1, step):
            window = series[start : start + WINDOW].astype("<f4")
            writers[count % shards].write(np.array(label, "<i4").tobytes() + window.tobytes())
            count += 1
    for writer in writers:
        writer.close()
    return count


def stream(
    folder: Path, teacher: str | None, student: str, seed: int
) -> tuple[grain.IterDataset, int]:
    """Return endless shuffled batches of all shards in a folder, and the steps of an epoch.

    Records are read as batches need them, in another order each epoch.

    Args:
        folder: With the shards.
        teacher: Modality of the teacher; `None` for batches of the student alone.
        student: Modality of the student.
        seed: Of the order.
    """
    source = grain.sources.ArrayRecordDataSource(sorted(map(str, folder.glob("*.array_record"))))

    def decode(record: bytes) -> tuple:
        label = np.frombuffer(record, "<i4", 1)[0]
        window = np.frombuffer(record, "<f4", offset=4).reshape(WINDOW, _CHANNELS)
        seen = np.ascontiguousarray(window[:, MODALITIES[student]])
        if teacher is None:
            return seen, label
        taught = np.ascontiguousarray(window[:, MODALITIES[teacher]])
        return {"teacher": taught, "student": seen}, label

    records = grain.MapDataset.source(source).seed(seed).shuffle()
    batches = records.map(decode).batch(BATCH_SIZE, drop_remainder=True)
    # By default Grain reads 500 batches ahead.
    ahead = grain.ReadOptions(num_threads=4, prefetch_buffer_size=16)
    return batches.repeat().to_iter_dataset(ahead), len(batches)
