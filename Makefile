# Two commands on a fresh machine with Python 3.11 or newer:
#
#   make demo    install what the demo needs into .venv, train on real digits on the CPU (about 3 minutes), write pictures to runs/demo
#   make test    install everything into .venv, lint, type-check, and run the tests on JAX, TensorFlow and PyTorch, and the examples of the
#                pages and the notebooks in an environment with JAX only
#
# make check is for every change: lint, types, and a few hundred quick tests, in less than five minutes. make test-oldest runs a quick
# selection on the oldest versions that pyproject.toml declares, make test-pythons on Python 3.12 and 3.13 where they are installed.
# make bench times sampling and training beside FlaxDiff, diffusers and the bare network (installs both; BENCH="--cases a b c d" for more);
# make bench-networks compares single networks with theirs; make solvers writes docs/solvers.md anew (about a minute),
# make reports docs/results.md (about three hours; it goes on where it was interrupted).
# make docs builds the site into build/site, make pictures draws docs/images anew (about half an hour; ONLY="start-film.png …" for some).

PYTHON ?= python3.11
BIN := .venv/bin
# Not compiled: pip would do that for every file of TensorFlow and PyTorch; Python does it for those that are imported.
# It keeps them, whatever the environment says: else every process that a test starts compiles thousands of files.
export PYTHONDONTWRITEBYTECODE :=
INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile
PIP := $(BIN)/python $(INSTALL)

# Two processes: most of the time goes into compiling small programs, which uses one core. Whichever is done first takes over half of what
# the other one has left.
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist worksteal --durations=10

.PHONY: demo test check lint test-jax test-tensorflow test-torch test-pages notebooks test-oldest test-pythons bench bench-networks solvers reports pictures docs clean help

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo-installed: pyproject.toml | .venv/bin/python
	@echo "Installing what the demo needs into .venv ..."
	$(PIP) --editable ".[demo]"
	@touch $@

# tf_keras by itself: it asks for the package tensorflow, where tensorflow-cpu will do. Those whose metrics ours are compared with likewise:
# they ask for torchvision, and that for another torch, with CUDA. What their functions of features need is there.
METRIC_PEERS := torch-fidelity==0.4.0 clean-fid==0.1.35 pytorch-fid==0.3.0 torchmetrics==1.9.0 lightning-utilities prdc==0.2 vendi-score==0.0.3

.venv/test-installed: pyproject.toml | .venv/bin/python
	@echo "Installing JAX, TensorFlow, PyTorch (CPU) and the test tools into .venv ..."
	$(PIP) --editable ".[test]"
	$(PIP) --no-deps tf_keras $(METRIC_PEERS)
	@touch $@ .venv/demo-installed

demo: .venv/demo-installed
	KERAS_BACKEND=jax $(BIN)/keras-diffusion demo --out runs/demo --overwrite

test: lint test-jax test-tensorflow test-torch test-pages
	@echo "All tests passed on JAX, TensorFlow and PyTorch."

check: lint
	KERAS_BACKEND=jax $(PYTEST) -m "not slow" $(QUICK)

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

# The examples of the pages, and the notebooks in quick mode, in an environment with only what README.md says that they need, an empty home
# and no backend chosen. Their programs run once or twice, so that JAX need not optimize them, which saves a third of the time.
PAGES := README.md CONTRIBUTING.md $(wildcard docs/*.md docs/explanation/*.md)

test-pages: .venv-pages/installed
	.venv-pages/bin/python notebooks/refresh.py --quick --jobs 2
	JAX_DISABLE_MOST_OPTIMIZATIONS=1 .venv-pages/bin/python tests/pages.py $(PAGES)

# Runs every notebook fully, one after the other, and stores what it shows: about three minutes each.
notebooks: .venv-pages/installed
	.venv-pages/bin/python notebooks/refresh.py

.venv-pages/installed: pyproject.toml
	$(PYTHON) -m venv --clear .venv-pages
	.venv-pages/bin/python $(INSTALL) --editable ".[demo]" $(KERNEL)
	@touch $@

# What runs notebooks: the extra `notebooks` without JupyterLab, which only people need.
KERNEL := "ipykernel>=6" "nbclient>=0.10" "nbformat>=5.10"

# What `check`, the oldest versions and other Pythons run: each room, without what takes long.
QUICK := tests/test_architecture.py tests/core tests/predictors tests/schedulers tests/training tests/data tests/visualization \
	tests/models/test_training.py tests/models/test_saving.py tests/checkpoints/test_own.py tests/cli/test_cli_app.py

# uv, as pip cannot choose the oldest versions that pyproject.toml allows. Compiled packages come as wheels: old sources do not build.
WHEELS := numpy scipy pillow matplotlib scikit-learn h5py jaxlib tensorflow-cpu array-record grain pyarrow tensorstore contourpy kiwisolver
OLDEST := ".[demo,data,legacy,orbax,hub,tensorflow]" "pytest>=8" "pytest-timeout>=2.3.1" "pyyaml>=6"

test-oldest: .venv-oldest/installed
	KERAS_BACKEND=jax .venv-oldest/bin/python -m pytest -q -m "not slow" $(QUICK)
	KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=2 .venv-oldest/bin/python -m pytest -q -m "not slow" tests/models/test_training.py

.venv-oldest/installed: pyproject.toml
	$(PYTHON) -m venv --clear .venv-oldest
	.venv-oldest/bin/python $(INSTALL) uv
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct \
		$(foreach package,$(WHEELS),--only-binary $(package)) --editable $(OLDEST)
	@touch $@

test-pythons:
	@for version in 3.12 3.13; do \
		if ! python$$version -c "" 2>/dev/null; then echo "Python $$version is not installed: not tried."; continue; fi; \
		python$$version -m venv --clear .venv-$$version && \
		.venv-$$version/bin/python $(INSTALL) --editable ".[demo,data]" pytest pytest-timeout pyyaml && \
		KERAS_BACKEND=jax .venv-$$version/bin/python -m pytest -q -m "not slow" $(QUICK) || exit 1; \
	done

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

reports: .venv/test-installed
	cd benchmarks && KERAS_BACKEND=jax ../$(BIN)/python -m reports $(REPORTS)

# Those of the comparison of backends need Chromium, and are left out without it.
pictures: .venv/test-installed
	$(BIN)/python benchmarks/pictures.py $(if $(ONLY),--only $(ONLY))

# Warnings are errors. The stored outputs of the notebooks are shown: nothing is run.
docs: .venv/test-installed
	KERAS_BACKEND=jax $(BIN)/python -m sphinx -q -E -W --keep-going -n -b html -c docs -d build/doctrees . build/site
	@echo "Open build/site/index.html"

clean:
	rm -rf .venv .venv-pages .venv-oldest .venv-3.1? build *.egg-info runs
