# Two commands on a fresh machine with Python 3.11 or newer:
#
#   make demo    install what the demo needs into .venv, train on real digits on the CPU (about 3 minutes), write pictures to runs/demo
#   make test    install everything into .venv, lint, type-check, and run the tests on JAX, TensorFlow and PyTorch
#
# make bench times sampling and training beside FlaxDiff, diffusers and the bare network (installs both; BENCH="--cases a b c d" for more);
# make bench-networks compares single networks with theirs; make solvers writes docs/solvers.md anew (about a minute).

PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Two processes: most of the time goes into compiling small programs, which uses one core. Whichever is done first takes over half of what
# the other one has left.
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist worksteal --durations=10

.PHONY: demo test lint test-jax test-tensorflow test-torch bench bench-networks solvers clean help

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo-installed: pyproject.toml | .venv/bin/python
	@echo "Installing what the demo needs into .venv ..."
	$(PIP) --editable ".[demo]"
	@touch $@

# tf_keras by itself: it asks for the package tensorflow, where tensorflow-cpu will do.
.venv/test-installed: pyproject.toml | .venv/bin/python
	@echo "Installing JAX, TensorFlow, PyTorch (CPU) and the test tools into .venv ..."
	$(PIP) --editable ".[test]"
	$(PIP) --no-deps tf_keras
	@touch $@ .venv/demo-installed

demo: .venv/demo-installed
	KERAS_BACKEND=jax $(BIN)/keras-diffusion demo --out runs/demo --overwrite

test: lint test-jax test-tensorflow test-torch
	@echo "All tests passed on JAX, TensorFlow and PyTorch."

lint: .venv/test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-jax: .venv/test-installed
	KERAS_BACKEND=jax $(PYTEST)

# The two other backends run everything that is not marked slow. One thread for torch: more than one fights with XLA's for two cores.
test-tensorflow: .venv/test-installed
	KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=2 $(PYTEST) -m "not slow"

test-torch: .venv/test-installed
	KERAS_BACKEND=torch OMP_NUM_THREADS=1 $(PYTEST) -m "not slow"

bench: .venv/peers-installed
	cd benchmarks && ../$(BIN)/python -m suite $(BENCH)
	KERAS_BACKEND=jax $(BIN)/python benchmarks/attention.py
	KERAS_BACKEND=jax $(BIN)/python benchmarks/normalization.py
	KERAS_BACKEND=jax $(BIN)/python benchmarks/convolutions.py
	KERAS_BACKEND=jax $(BIN)/python benchmarks/upsampling.py

# FlaxDiff and diffusers go into a folder of their own: their dependencies would change what is tested.
.venv/peers-installed: .venv/test-installed
	$(PIP) --target .venv/peers --no-deps flaxdiff==0.2.11 flax==0.12.8 optax chex einops msgpack orbax-checkpoint tensorstore treescope diffusers==0.42.1
	$(PIP) --target .venv/peers huggingface_hub safetensors importlib_metadata regex requests filelock
	$(PIP) --target .venv/peers --no-deps humanize clu termcolor ml_collections uvloop nest_asyncio psutil simplejson aiofiles
	@touch $@

bench-networks: .venv/peers-installed
	KERAS_BACKEND=jax PYTHONPATH=$(CURDIR)/.venv/peers $(BIN)/python benchmarks/networks.py --out docs/networks.md

solvers: .venv/test-installed
	KERAS_BACKEND=jax $(BIN)/python benchmarks/solvers.py --out docs

clean:
	rm -rf .venv build *.egg-info runs
