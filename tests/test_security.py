"""What the code must not do, found by reading it, and data files that want to run code."""

import ast
import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from recipes.watch.data import FILE, load_watch

ROOT = Path(__file__).parents[1]
# What needs care, and why it is there. Anything else is refused.
ALLOWED = {
    ("keras_fdkd/data/record_teacher.py", "shutil"): "removes the folders that it made itself",
    ("keras_fdkd/study/__init__.py", "cloudpickle"): "looks whether it is there",
    ("keras_fdkd/study/__init__.py", "joblib"): "looks whether it is there",
    ("keras_fdkd/study/processes.py", "joblib"): "starts processes of its own",
    ("keras_fdkd/study/sharing.py", "cloudpickle"): "writes for processes of its own",
    ("keras_fdkd/study/sharing.py", "pickle"): "reads what it wrote to a folder of its own",
    ("keras_fdkd/study/study.py", "shutil"): "removes the folder that it made itself",
    ("recipes/grid/decode.py", "subprocess"): "runs FFmpeg on files of the user's; no shell",
    ("recipes/omniglot/files.py", "zipfile"): "reads members of the published zips, extracts none",
    ("recipes/performance/backends.py", "subprocess"): "runs itself with each backend; no shell",
    (
        "recipes/performance/fresh_process.py",
        "subprocess",
    ): "runs recipes in fresh processes; no shell",
    ("recipes/published/video.py", "subprocess"): "runs FFmpeg on files of the user's; no shell",
    ("recipes/watch/data.py", "pickle"): "the data are a pickle; its unpickler takes arrays alone",
}
MODULES = {
    "cloudpickle", "code", "ctypes", "dill", "ftplib", "http", "joblib", "marshal",
    "multiprocessing", "pickle", "pty", "requests", "runpy", "shelve", "shutil", "socket",
    "subprocess", "tarfile", "telnetlib", "urllib", "xml", "yaml", "zipfile",
}  # fmt: skip
CALLS = {
    "__import__", "compile", "eval", "exec", "input",
    "keras.config.enable_unsafe_deserialization", "os.popen", "os.startfile", "os.system",
    "pandas.read_pickle", "sys.settrace", "tempfile.mktemp",
}  # fmt: skip
PREFIXES = ("os.exec", "os.spawn", "os.posix_spawn")
# Calls that are safe with one keyword alone.
NEEDED = {"numpy.load": ("allow_pickle", False), "torch.load": ("weights_only", True)}
REFUSED = {("shell", True), ("safe_mode", False), ("allow_pickle", True), ("weights_only", False)}


def careful(source):
    """Return what a source imports and calls that needs care."""
    tree = ast.parse(source)
    names, found = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
                found |= {top} & MODULES
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            found |= {str(node.module).split(".")[0]} & MODULES
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, _, rest = ast.unparse(node.func).partition(".")
            called = names.get(first, first) + (f".{rest}" if rest else "")
            given = {(k.arg, k.value.value) for k in node.keywords
                     if isinstance(k.value, ast.Constant)}  # fmt: skip
            if called in CALLS or called.startswith(PREFIXES):
                found.add(called)
            if called in NEEDED and NEEDED[called] not in given:
                found.add(called)
            found |= {f"{name}={value}" for name, value in given if (name, value) in REFUSED}
    return found


def test_the_code_does_nothing_unsafe():
    files = [path for name in ("keras_fdkd", "recipes") for path in (ROOT / name).rglob("*.py")]
    assert len(files) > 60
    found = {
        (path.relative_to(ROOT).as_posix(), what)
        for path in files
        for what in careful(path.read_text(encoding="utf-8"))
    }
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import pickle as p\np.dumps(1)", {"pickle"}),
        ("from pickle import loads", {"pickle"}),
        ("import os\nos.system('ls')", {"os.system"}),
        ("from os import system as run\nrun('ls')", {"os.system"}),
        ("import os as o\no.execvp('ls', [])", {"os.execvp"}),
        ("import subprocess\nsubprocess.run('ls', shell=True)", {"subprocess", "shell=True"}),
        ("eval('1')\nexec('2')", {"eval", "exec"}),
        ("import yaml\nyaml.load(x)", {"yaml"}),
        ("import tarfile\ntarfile.open(x).extractall()", {"tarfile"}),
        ("import numpy as np\nnp.load(x)", {"numpy.load"}),
        ("import numpy as np\nnp.load(x, allow_pickle=True)", {"numpy.load", "allow_pickle=True"}),
        ("from numpy import load\nload(x, allow_pickle=False)", set()),
        ("import torch\ntorch.load(x)", {"torch.load"}),
        ("import torch\ntorch.load(x, weights_only=True)", set()),
        ("import keras\nkeras.saving.load_model(x, safe_mode=False)", {"safe_mode=False"}),
        ("import re\nre.compile(x)\nmodel.compile('adam')\nmodel.evaluate(x)", set()),
    ],
)
def test_unsafe_code_would_be_found(source, found):
    assert careful(source) == found


def push(value):
    """The instructions of a pickle that leave `value` on its stack."""
    return pickle.dumps(value, protocol=2)[2:-1]


def calling(module, name, *arguments):
    """A pickle that calls `module.name(*arguments)` when it is read."""
    return b"\x80\x04" + push(module) + push(name) + b"\x93" + push(arguments) + b"R."


def data_file(folder, pickled):
    with (folder / FILE).open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(pickled)


ATTACKS = {
    "os.system": ("os", "system", "touch {trace}"),
    "posix.system": ("posix", "system", "touch {trace}"),
    "eval": ("builtins", "eval", "open({trace!r}, 'w')"),
    "exec": ("builtins", "exec", "open({trace!r}, 'w')"),
    "open": ("builtins", "open", "{trace}", "w"),
    "getattr": ("builtins", "getattr", 1, "real"),
    "subprocess": ("subprocess", "getoutput", "touch {trace}"),
    "numpy.load": ("numpy", "load", "{trace}"),
    "numpy.memmap": ("numpy", "memmap", "{trace}", "uint8", "w+", 0, (4,)),
    "numpy.save": ("numpy", "save", "{trace}", 1),
    "dotted": ("numpy", "ndarray.tofile", 1, "{trace}"),
    "attribute": ("numpy", "ndarray.__class__", 1),
    "importlib": ("importlib", "import_module", "this"),
    "apply": ("functools", "partial", 1),
    "codecs.open": ("codecs", "open", "{trace}", "w"),
    "codecs.decode": ("_codecs", "decode", b"x", "zip"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_data_files_run_nothing(tmp_path, name):
    trace = str(tmp_path / "trace")
    module, function, *arguments = ATTACKS[name]
    filled = [a.format(trace=trace) if isinstance(a, str) else a for a in arguments]
    data_file(tmp_path, calling(module, function, *filled))
    with pytest.raises(pickle.UnpicklingError, match=f"{module}.{function}: refused"):
        load_watch(tmp_path)
    assert not Path(trace).exists()


def test_an_attack_would_leave_its_trace(tmp_path):
    """The same bytes, read by Python's own unpickler."""
    trace = tmp_path / "trace"
    pickle.loads(calling("builtins", "open", str(trace), "w")).close()
    assert trace.exists()


@pytest.mark.parametrize("encoding", ["zip", "rot13", "utf-7", "utf-8"])
def test_data_files_choose_no_codec(tmp_path, encoding):
    data_file(tmp_path, calling("_codecs", "encode", "text", encoding))
    with pytest.raises(pickle.UnpicklingError, match=f"codec '{encoding}': refused"):
        load_watch(tmp_path)


def test_data_files_name_no_object_elsewhere(tmp_path):
    """Ways to an object besides its name: a persistent identity, and a registered number."""
    for pickled, message in ((b"Pid\n.", "persistent"), (b"\x82\x01.", "extension code")):
        data_file(tmp_path, pickled)
        with pytest.raises((pickle.UnpicklingError, ValueError), match=message):
            load_watch(tmp_path)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_arrays_are_read(tmp_path, protocol):
    """Series, labels and subjects, by the protocols that `numpy.save` has used."""
    series = np.empty(2, object)
    series[:] = [np.random.default_rng(0).normal(size=(n, 6)) for n in (200, 300)]
    content = {"X": series, "y": np.array([1, 0]), "subject": np.array([5, 7]),
               "y_labels": np.array(["a", "b"])}  # fmt: skip
    buffer = io.BytesIO()
    pickle.Pickler(buffer, protocol).dump(np.array(content, dtype=object))
    data_file(tmp_path, buffer.getvalue())
    data = load_watch(tmp_path)
    assert data.labels.tolist() == [1, 0, 0]
    assert data.subjects.tolist() == [5, 7, 7]
    np.testing.assert_array_equal(
        data.signals["gyroscope"][1], series[1][:200, 3:].astype("float32")
    )
