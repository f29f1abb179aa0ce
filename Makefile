# `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The lock file is resolved for Python 3.11.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
RUNNER ?= subprocess

MINIML := $(BIN)/miniml
SOURCES := miniml components pipelines serving benchmarks docs tests .ci/setup.py

.PHONY: help setup setup-dev run search serve test bench-serve bench-data bench-train bench-levers bench-recipes bench-compress bench-distillation bench-gpu check format compile submit predict images cluster cluster-delete e2e lock docs clean

help:  ## List these targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## /\1\t/' | expand -t 16

setup: $(VENV)/installed-run  ## Install what `make run` needs into .venv (TORCH_INDEX: where torch comes from; INSTALLER=pip: no uv)

setup-dev: $(VENV)/installed-dev  ## Install what tests, checks and benchmarks need as well

$(VENV)/installed-%: pyproject.toml requirements.lock
	@[ "$$($(PYTHON) -c 'import sys; print(sys.version_info >= (3, 11))')" = True ] || \
	  { echo "error: PYTHON ($(PYTHON)) is not Python 3.11 or newer; set PYTHON=<one that is>" >&2; exit 1; }
	@$(PYTHON) .ci/setup.py $*

run: setup  ## Run the main job on embedded data; RUNNER=docker in containers, ARGS='--epochs 2' changes it
	@$(MINIML) run --runner $(RUNNER) --default-preset demo $(ARGS)

search: setup  ## Search for hyperparameters on embedded data (some 4 minutes); ARGS='--trials 8' changes it
	@$(MINIML) search run --runner $(RUNNER) --default-preset search-demo $(ARGS)

serve: setup  ## Serve the newest model until Ctrl-C; PORT=9000 on another port than 8080
	@$(MINIML) serve $(if $(PORT),--port $(PORT))

test: setup-dev  ## Run the tests
	$(BIN)/python -m pytest -m 'not cluster' --numprocesses logical --maxprocesses 4 --dist loadfile

bench-serve: setup-dev  ## Measure serving beside its peers and write docs/benchmarks.md; ARGS='--parts load' for a part of it (some 7 minutes)
	@$(BIN)/python -m benchmarks.serving $(ARGS)

bench-data: setup-dev  ## Measure transform: memory, rows a second, leaks found; writes docs/benchmarks.md (some 5 minutes)
	@$(BIN)/python -m benchmarks.data $(ARGS)

bench-train: setup-dev  ## Measure training beside the prototype's and the Trainer's own; writes docs/benchmarks.md (some 35 minutes)
	@$(BIN)/python -m benchmarks.training $(ARGS)

bench-levers: setup-dev  ## Measure what makes training fast, over 3 seeds; writes docs/benchmarks.md (some 35 minutes)
	@$(BIN)/python -m benchmarks.levers $(ARGS)

bench-recipes: setup-dev  ## Measure ways to fine-tune over 3 seeds, on short and long reviews; writes docs/benchmarks.md (some 40 minutes)
	@$(BIN)/python -m benchmarks.recipes $(ARGS)

bench-compress: setup-dev  ## Measure how much faster fewer layers are; writes docs/benchmarks.md (some 2 minutes)
	@$(BIN)/python -m benchmarks.compress $(ARGS)

bench-distillation: setup-dev  ## Measure what fewer layers lose, over 3 seeds, on short and long reviews; writes docs/benchmarks.md (some 40 minutes)
	@$(BIN)/python -m benchmarks.distillation $(ARGS)

bench-gpu: setup-dev  ## Measure training and serving on a GPU; writes docs/benchmarks.md (at most 8 minutes; ARGS='--device cpu --quick' tries it)
	@$(BIN)/python -m benchmarks.gpu $(ARGS)

check: setup-dev  ## Format, lint (with import rules), types: exactly what CI checks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy $(SOURCES)

format: setup-dev  ## Put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup-dev  ## Build the documentation site in build/site; a broken link or anchor fails it
	$(BIN)/python -m docs.generator
	$(BIN)/zensical build --clean --strict
	@echo "open build/site/index.html; its search needs a server: $(BIN)/python -m http.server --directory build/site"

compile: setup  ## Write what follows from the code: pipelines and components as YAML, tables of arguments, the images' tag
	@$(BIN)/python -m pipelines compile
	@$(BIN)/python -m docs.generator.arguments
	@PYTHON=$(BIN)/python manifests/install.sh tag

submit: setup  ## Run it on the cluster at KFP_HOST and follow it; ARGS='--dataset-id s3://bucket/reviews@v1'
	@$(MINIML) submit $(ARGS)

predict: setup  ## Ask the live service: TEXT='...' (MINIML_URL, or by the kube configuration)
	@$(MINIML) predict $(ARGS) -- "$$TEXT"

images:  ## Build the container images (BASE_IMAGE, TORCH_INDEX, TRAIN_EXTRAS, MINIML_REGISTRY, MINIML_IMAGE_TAG)
	@$(PYTHON) -m components.build

cluster: setup  ## Make a kind cluster with Kubeflow Pipelines, KServe and our images; run it again after a failure
	@PYTHON=$(BIN)/python manifests/install.sh up

cluster-delete:  ## Delete that cluster
	@manifests/install.sh down

# tests/e2e/cluster.py tells which settings say that the cluster is another one than `make cluster` makes. What goes on is
# shown as it goes on (-s); ARGS='-k survival' tries a part.
e2e: setup-dev  ## Test everything on the current kube context: train, serve, roll out under load, roll back, survive (an hour or two)
	MINIML_E2E=1 $(BIN)/python -m pytest -m cluster --timeout=14400 -s -v $(ARGS) tests/e2e

# The CPU build's local version would name a file that other machines do not have.
lock: setup-dev  ## Resolve requirements.lock anew
	$(BIN)/pip-compile --quiet --strip-extras --extra dev --no-emit-index-url --no-emit-find-links \
	  --no-emit-trusted-host --unsafe-package miniml --output-file requirements.lock pyproject.toml
	sed -i -E 's/^(torch==[0-9.]+)\+cpu/\1/' requirements.lock

clean:  ## Remove .venv and what tools left behind; local_outputs stays
	rm -rf $(VENV) build .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
