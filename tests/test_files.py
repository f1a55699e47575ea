"""Files are replaced in one step, and otherwise as plain writing would leave them."""

import os
import stat
import threading

import keras
import pytest
from conftest import classifier, cross_entropy

from keras_fdkd import CrossModalDistiller
from keras_fdkd.callbacks import CrashSafeBackup
from keras_fdkd.files import written_whole
from keras_fdkd.losses import KD


def write(path, text):
    with written_whole(path) as part:
        part.write_text(text)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / "target", tmp_path / "link.txt"
    link.symlink_to(target)  # It need not be there yet.
    for text in ("first", "second"):
        write(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["target"]


def test_the_part_lies_beside_the_target_and_ends_as_was_asked(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "link.keras").symlink_to(tmp_path / "store" / "target")
    with written_whole(tmp_path / "link.keras") as part:
        part.write_text("")
        assert part.parent == tmp_path / "store"
        assert part.name.endswith("-link.keras")


def test_modes(tmp_path):
    path, plain = tmp_path / "file", tmp_path / "plain"
    before = os.umask(0o027)
    try:
        write(path, "new")
        plain.write_text("new")
    finally:
        os.umask(before)
    assert mode(path) == mode(plain) == 0o640
    path.chmod(0o604)
    write(path, "again")
    assert mode(path) == 0o604


def test_a_write_protected_file_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write(path, "kept")
    path.chmod(0o444)
    # Root may write to it all the same.
    monkeypatch.setattr(os, "access", lambda path, how: how != os.W_OK)
    with pytest.raises(PermissionError, match="file"):
        write(path, "lost")
    assert path.read_text() == "kept"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write(path, "kept")

    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(path, "lost")
    assert path.read_text() == "kept"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_threads_write_parts_of_their_own(tmp_path):
    path, parts = tmp_path / "file", []
    together = threading.Barrier(4)

    def run(number):
        with written_whole(path) as part:
            part.write_text(str(number) * 1000)
            together.wait(10)  # All parts are there before the first takes its place.
            parts.append(part)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(parts)) == 4
    text = path.read_text()
    assert len(text) == 1000
    assert len(set(text)) == 1
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", ["save", "save_weights"])
def test_distillers_write_through_links_and_keep_modes(kind, tmp_path):
    name = "d.keras" if kind == "save" else "d.weights.h5"
    distiller = CrossModalDistiller(classifier(6), classifier(4), losses=[KD()])
    distiller.compile("adam", loss=cross_entropy())
    target, link = tmp_path / "target", tmp_path / name
    link.symlink_to(target)
    getattr(distiller, kind)(link)
    target.chmod(0o640)
    first = target.stat().st_ino
    getattr(distiller, kind)(link)
    assert link.is_symlink()
    assert target.stat().st_ino != first
    assert mode(target) == 0o640
    distiller.load_weights(link)


def test_backup_removes_what_a_killed_process_left(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with written_whole(tmp_path / "epoch-000009.weights.h5") as part:
        part.write_bytes(b"torn")
        name = part.name
        (tmp_path / "copy").write_bytes(part.read_bytes())
    (tmp_path / "epoch-000009.weights.h5").unlink()
    (tmp_path / "copy").rename(tmp_path / name)  # As if the process had ended here.
    assert CrashSafeBackup(tmp_path).epoch == 0
    x = keras.ops.ones((4, 2)), keras.ops.ones((4, 1))
    model.fit(*x, verbose=0, callbacks=[CrashSafeBackup(tmp_path, keep=True)])
    assert [found.name for found in tmp_path.iterdir()] == ["epoch-000001.weights.h5"]
