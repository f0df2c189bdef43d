"""The shape of the package: who may import whom, documentation strings, and what an import costs."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "keras_diffusion"
FILES = sorted(PACKAGE.rglob("*.py"))

# A file imports from lower floors and from its own folder only.
FLOORS = {
    "version": 0,
    "configs": 0,  # arguments, names for classes, and configs: what anything here is made from
    "runtime": 0.2,  # what programs run on and with: backends, devices, processes, files
    "core": 0.4,  # maths
    "containers": 0.6,  # byte formats: they know nothing of diffusion
    "layers": 1,
    "lora.network": 1.5,  # adapters of a network; the rest of the room is files
    "schedulers": 1,
    "predictors": 1,
    "distribution": 1,
    "training": 2,
    "networks": 2,
    "denoisers": 2,
    "guidance": 3,
    "samplers": 3,
    "models": 4,
    "data": 5,
    "text": 5,
    "metrics": 5,
    "visualization": 5,
    "checkpoints": 6,
    "callbacks": 6,
    "lora": 6.5,
    "comparison": 7,
    "cli": 8,
}


def room_of(path):
    """First folder, or the file's own name at the top; a folder or file in it that has a floor of its own."""
    return room_of_module(".".join(path.relative_to(PACKAGE).parts).removesuffix(".py"))


def room_of_module(name):
    """Room of a dotted name within the package."""
    inner = ".".join(name.split(".")[:2])
    return inner if inner in FLOORS else name.split(".")[0]


def imports_of(path):
    """Modules of this package that a file imports, lazily or not, as dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from keras_diffusion import samplers` imports the room, not the package.
            inside = node.module == "keras_diffusion"
            names = [f"{node.module}.{alias.name}" for alias in node.names] if inside else [node.module]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] == "keras_diffusion")


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != PACKAGE], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_to_lower_floors(path):
    room = room_of(path)
    assert room in FLOORS, f"give the room {room!r} a floor"
    for name in imports_of(path):
        parts = name.split(".")
        assert len(parts) > 1, f"{path} imports the whole package"
        target = room_of_module(".".join(parts[1:]))
        if target.startswith("__"):  # keras_diffusion.__version__ would be the package itself
            pytest.fail(f"{path} imports {name}: import it from its own module")
        assert target == room or FLOORS[target] < FLOORS[room], (
            f"{path} (floor {FLOORS[room]}) imports {name} (floor {FLOORS[target]})"
        )


def test_samplers_know_no_networks_and_networks_no_schedules():
    for path in FILES:
        targets = {name.split(".")[1] for name in imports_of(path) if "." in name}
        if room_of(path) == "samplers":
            assert targets <= {"configs", "runtime", "core", "schedulers", "samplers"}, path
        if room_of(path) == "networks":
            assert targets <= {"configs", "runtime", "core", "layers", "lora", "networks"}, path


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_docstrings(path):
    """Every module, public class and public function says what it is.

    Overridden methods have their docstring in the base class.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = [] if ast.get_docstring(tree) or not tree.body else ["module"]
    for node in tree.body:
        if (
            isinstance(node, (ast.ClassDef, ast.FunctionDef))
            and not node.name.startswith("_")
            and not ast.get_docstring(node)
        ):
            missing.append(node.name)
    assert not missing, f"without a docstring: {', '.join(missing)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_asserts_and_no_prints_in_library_code(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}: raise an error that says what is wrong"
        called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id
        assert called != "print", f"{path}:{node.lineno}: print"


def nodes_of(kind):
    """(file within the package, node) of every node of a kind."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kind):
                yield path.relative_to(PACKAGE).as_posix(), node


def test_functions_fit_on_a_screen():
    """At most 60 lines beside the docstring; 100 for the constructors of networks, which build layer by layer."""
    long = []
    for file, node in nodes_of(ast.FunctionDef):
        first, most = node.body[0], 100 if file.startswith("networks/") and node.name == "__init__" else 60
        docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) is not None else 0
        lines = node.end_lineno - node.lineno + 1 - docstring
        if lines > most:
            long.append(f"{file}:{node.lineno} {node.name}: {lines}")
    assert not long, long


def test_conditional_expressions_are_not_chained():
    """No `a if x else b if y else c`: an if statement or a table is read at once."""
    chains = [f"{file}:{node.lineno}" for file, node in nodes_of(ast.IfExp) if isinstance(node.orelse, ast.IfExp)]
    assert not chains, chains


def run_python(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


@pytest.mark.slow
def test_import_loads_no_other_backend_and_no_optional_package():
    listed = "import sys; print(' '.join(sorted({m.split('.')[0] for m in sys.modules})))"
    ours = set(run_python(f"import keras_diffusion; {listed}", KERAS_BACKEND="jax").split())
    keras = set(run_python(f"import keras; {listed}", KERAS_BACKEND="jax").split())
    heavy = {
        "tensorflow",
        "torch",
        "tensorflow_datasets",
        "keras_cv",
        "matplotlib",
        "PIL",
        "sklearn",
        "grain",
        "typer",
        "tf_keras",
    }
    assert not (ours - keras) & heavy
    assert "keras_diffusion" in ours


@pytest.mark.slow
def test_training_and_sampling_on_jax_import_neither_tensorflow_nor_torch():
    code = """
import sys
import numpy as np
import keras_diffusion as kd

network = kd.networks.UNet((4, 4, 1), widths=(8,), num_res_blocks=1, num_classes=2)
model = kd.DiffusionModel(network)
model.compile("adam")
model.fit({"images": np.zeros((4, 4, 4, 1), "float32"), "labels": np.zeros(4, "int32")}, batch_size=2, verbose=0)
model.generate(2, {"labels": 1}, num_steps=2, verbose=0)
print([name for name in ("tensorflow", "torch") if name in sys.modules])
"""
    assert run_python(code, KERAS_BACKEND="jax").strip().splitlines()[-1] == "[]"


@pytest.mark.slow
def test_jax_is_the_default_backend():
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    code = "import keras_diffusion, keras; print(keras.backend.backend())"
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "jax"


@pytest.mark.slow
def test_import_costs_little_beyond_keras():
    """Both in one process, which a busy machine slows down alike; up to five, for one that is busy now and then."""
    code = """
import time
start = time.perf_counter()
import keras
middle = time.perf_counter()
import keras_diffusion
print((time.perf_counter() - start) / (middle - start))
"""
    ratios = []
    while len(ratios) < 5:
        ratios.append(float(run_python(code, KERAS_BACKEND="jax")))
        if ratios[-1] < 1.2:
            return
    pytest.fail(f"import keras_diffusion takes {min(ratios):.2f} times as long as import keras")


def test_test_files_have_names_of_their_own():
    """pytest imports them by name alone, and finds the second of two that share one impossible to collect."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
