"""CrashSafeBackup: resume after the process is killed, at whatever moment."""

import re
from pathlib import Path
from typing import Any

import keras

from keras_fdkd.arguments import check_boolean
from keras_fdkd.distillers.lora_state import with_lora_state
from keras_fdkd.files import written_whole
from keras_fdkd.processes import is_first_process, meet, thrown_away

_FILE = re.compile(r"epoch-(\d+)\.weights\.h5")


class CrashSafeBackup(keras.callbacks.Callback):
    """Back up the training state after each epoch; `fit` resumes from the last complete backup.

    For long trainings on machines that may be interrupted. `keras.callbacks.BackupAndRestore` does
    the same with two files, the weights and the number of the epoch: if the process is killed while
    it writes one of them, or between them, it leaves a broken file or two that disagree. Here one
    file holds the state, its name holds the number of finished epochs, and it appears in one step.
    A distiller's backup leaves out the weights of its frozen teacher. LoRA factors are saved as
    they are, also those of a plain model, whose factors Keras would merge.

    The state of other callbacks is not in the backup: after a restart `EarlyStopping` and
    `ReduceLROnPlateau` count epochs without improvement from zero, and have no best value yet. The
    learning rate that the latter has set is part of the optimizer, and so of the backup.

    To reach the same weights as an uninterrupted run, the order of the data must depend only on the
    number of the epoch, not on earlier random draws: `backup.epoch` is the next epoch to run. If
    several processes train together, the first one writes; all must see the folder.

    Args:
        folder: Local folder for the backups of this run, created if missing.
        keep: Boolean. Whether the last backup stays when training has ended. A further `fit` with
            the same number of epochs then has nothing left to do. Defaults to `False`.

    Raises:
        ValueError: If `folder` is empty or a file. In training, if the distiller has another
            teacher than the one the backup was written with.

    Example:
    >>> import tempfile
    >>> import numpy as np
    >>> folder, epochs = tempfile.mkdtemp(), []
    >>> for _ in range(2):  # The second time, two epochs are there already.
    ...     model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    ...     model.compile("adam", "mse")
    ...     backup = CrashSafeBackup(folder, keep=True)
    ...     count = backup.epoch + 2
    ...     history = model.fit(np.ones((4, 2)), np.ones(4), epochs=count, callbacks=[backup],
    ...                         verbose=0)
    ...     epochs += history.epoch
    >>> epochs
    [0, 1, 2, 3]
    """

    def __init__(self, folder: "str | Path", keep: bool = False) -> None:
        super().__init__()
        if not isinstance(folder, (str, Path)) or not str(folder) or Path(folder).is_file():
            raise ValueError(
                f"`folder` must be the path of a local folder. Received: folder={folder!r}."
            )
        check_boolean("keep", keep)
        self.folder = Path(folder)
        self.keep = keep
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def epoch(self) -> int:
        """Number of finished epochs in the last backup; 0 without a backup."""
        return max(self._files(), default=0)

    def _files(self) -> dict[int, Path]:
        found = {path: _FILE.fullmatch(path.name) for path in self.folder.iterdir()}
        return {int(match[1]): path for path, match in found.items() if match}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if is_first_process(self.model):
            for path in self.folder.glob("part-*-epoch-*.weights.h5"):
                path.unlink(missing_ok=True)  # Left by a process that was killed.
        meet()  # All must see what the first process wrote or removed before.
        if not self.epoch:
            return
        # Without variables it could not load its state from the file.
        optimizer = self.model.optimizer
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        with with_lora_state(self.model):
            self.model.load_weights(self._files()[self.epoch])
        # `fit` has no public way to learn it from a callback; Keras's own one sets it here as well:
        # https://github.com/keras-team/keras/issues/19179.
        self.model._initial_epoch = self.epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.model._initial_epoch = None  # Else Keras would begin the next `fit` there too.

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        path = self.folder / f"epoch-{epoch + 1:06}.weights.h5"
        if not is_first_process(self.model):
            thrown_away(self.model.save_weights, path)
            return
        older = self._files()
        with written_whole(path) as part, with_lora_state(self.model):
            self.model.save_weights(part)
        # Only now: until the new file is complete, the older ones are the backup.
        for number, path in older.items():
            if number <= epoch:
                path.unlink()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.model._initial_epoch = None
        if not self.keep and is_first_process(self.model):
            for path in self._files().values():
                path.unlink()
