"""Several devices: the same steps as on one device with the whole batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

WORKER = Path(__file__).with_name("train_on_devices.py")


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="PyTorch's processes are not tested yet"
)
def test_two_devices_equal_one(tmp_path):
    """JAX: `DataParallel`; TensorFlow: `MirroredStrategy`."""
    results = []
    for devices in (1, 2):
        file = tmp_path / f"{devices}.json"
        env = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        subprocess.run([sys.executable, WORKER, str(devices), file], check=True, env=env)
        results.append(json.loads(file.read_text()))
    for name, one in results[0].items():
        two = results[1][name]
        assert set(one["history"]) == set(two["history"])
        for term, values in one["history"].items():
            np.testing.assert_allclose(
                two["history"][term], values, rtol=1e-4, atol=1e-5, err_msg=f"{name}: {term}"
            )
        for first, second in zip(one["weights"], two["weights"], strict=True):
            np.testing.assert_allclose(second, first, rtol=1e-4, atol=1e-5, err_msg=name)
