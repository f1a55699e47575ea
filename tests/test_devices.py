"""Several devices and processes: the same steps as on one device with the whole batch."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

WORKER = Path(__file__).with_name("train_on_devices.py")
WAYS = {"jax": ["devices", "model"], "torch": ["processes"], "tensorflow": ["devices", "processes"]}
BACKEND = keras.config.backend()


def free_port():
    """A port that no other process is given for a minute, since a connection to it has ended."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            accepted, _ = server.accept()
            accepted.close()
            client.recv(1)
        return server.getsockname()[1]


def run(way, folder):
    """Run a way and return the results of each process."""
    command = [WORKER, way, folder / f"{way}.json"]
    workers = 2 if way == "processes" else 1
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if workers == 1:
        commands = [([sys.executable, *command], env)]
    elif BACKEND == "torch":
        launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
        launch += ["--master-port", str(free_port())]
        commands = [([*launch, *command], env)]
    else:
        cluster = {"worker": [f"127.0.0.1:{free_port()}" for _ in range(workers)]}
        configs = (
            {"cluster": cluster, "task": {"type": "worker", "index": index}} for index in (0, 1)
        )
        commands = [
            ([sys.executable, *command], {**env, "TF_CONFIG": json.dumps(config)})
            for config in configs
        ]
    started = [subprocess.Popen(arguments, env=env) for arguments, env in commands]
    try:
        assert [process.wait(timeout=600) for process in started] == [0] * len(started)
    finally:
        for process in started:
            process.kill()
    return [json.loads((folder / f"{way}-{n}.json").read_text()) for n in range(workers)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run("one", tmp_path_factory.mktemp("one"))[0]


@pytest.mark.parametrize("way", WAYS[BACKEND])
def test_same_steps_as_on_one_device(way, alone, tmp_path):
    results = run(way, tmp_path)
    for number, together in enumerate(results):
        assert set(together) == set(alone)
        for name, result in together.items():
            # Batch normalization sees what a process sees, but leaves the same in all.
            one = results[0][name] if name == "normalized" else alone[name]
            assert set(result["history"]) == set(one["history"])
            assert any(term.startswith("val_") for term in result["history"])
            for term, values in one["history"].items():
                np.testing.assert_allclose(
                    result["history"][term], values, rtol=1e-4, atol=1e-5, err_msg=f"{name}: {term}"
                )
            for first, second in zip(one["weights"], result["weights"], strict=True):
                np.testing.assert_allclose(second, first, rtol=1e-4, atol=1e-5, err_msg=name)
            files = [] if number else [f"{name}-0.keras", f"{name}-0.weights.h5"]
            assert result["written"] == files
    if way == "model":  # Each device holds half of a kernel of the teacher.
        assert together["unused"]["parts"] == [0.5, 1.0, 0.5, 1.0]
