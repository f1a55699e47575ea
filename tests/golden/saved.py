"""Write `saved_BACKEND.keras` and what must come of it; run once on each backend.

`KERAS_BACKEND=jax python tests/golden/saved.py`
"""

import json
import sys
from pathlib import Path

import keras

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import classifier, cross_entropy, pairs

from keras_fdkd import FrequencyDistiller
from keras_fdkd.losses import KD, FitNet

if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    distiller = FrequencyDistiller(
        classifier(6, features=20, batch_norm=True),
        classifier(4, batch_norm=True),
        extra_losses=[KD(3.0), FitNet()],
        extra_loss_weights=[0.5, 0.1],
        name="saved",
    )
    distiller.compile(keras.optimizers.Adam(1e-3), loss=cross_entropy(), metrics=["accuracy"])
    x, y = pairs()
    options = {"batch_size": 8, "shuffle": False, "verbose": 0}
    distiller.fit(x, y, epochs=3, **options)
    folder, backend = Path(__file__).parent, keras.config.backend()
    distiller.save(folder / f"saved_{backend}.keras")
    expected = {
        "keras": keras.__version__,
        "predictions": distiller.predict(x["student"], verbose=0).tolist(),
        "history": distiller.fit(x, y, epochs=2, **options).history,
    }
    (folder / f"saved_{backend}.json").write_text(json.dumps(expected))
