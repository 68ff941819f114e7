# Every target is a line or two that also works by hand.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
# TORCH=skip: torch and torchvision are already in .venv (the CPU build, see README).
LOCKS := requirements.lock $(if $(filter skip,$(TORCH)),,requirements-torch.lock)
# One computing thread a test worker: two workers with two threads each would only fight.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: ocr demo test test-slow test-ocr test-gpu test-all dev format lint types bench docs build check lock clean

demo: .venv/.ok
	$(BIN)/phantomset demo

test: .venv/.dev-ok
	$(PYTEST) -m "not slow and not gpu"

test-slow: .venv/.dev-ok
	$(PYTEST) -m "slow and not gpu"

# In a folder of its own: in .venv every test that takes pictures in would search them too, for hours.
# Skipped tests would pass, so the reader must be there.
test-ocr: .venv/.dev-ok
	$(PIP) --upgrade --target .ocr -r requirements-ocr.lock
	PYTHONPATH=$(CURDIR)/.ocr $(BIN)/python -c "from phantomset.data.burned_in import reader; raise SystemExit(not reader.is_installed())"
	PYTHONPATH=$(CURDIR)/.ocr $(PYTEST) tests/data/test_reader.py

test-gpu: .venv/.dev-ok
	$(BIN)/python -m pytest -m "not slow" --device cuda

test-all: .venv/.dev-ok
	$(PYTEST) -m "not gpu"

# The reader of burned-in text: 280 MB, with its own lock.
ocr: .venv/.ok
	$(PIP) -r requirements-ocr.lock

dev: .venv/.dev-ok

.venv/.ok: requirements.lock requirements-torch.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed: install it, or say make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the pinned packages into .venv (once; about 6 GB with the CUDA build of torch) ..."
	$(PIP) $(addprefix -r ,$(LOCKS))
	$(PIP) --no-build-isolation --editable .
	$(BIN)/python -m pip check --disable-pip-version-check
	touch $@

.venv/.dev-ok: .venv/.ok requirements-dev.lock
	$(PIP) -r requirements-dev.lock
	mkdir -p .dev/phantomset
	ln -sfn ../../data ../../ganmodels ../../validators ../../pipelines .dev/phantomset/
	touch $@

format: .venv/.dev-ok
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: .venv/.dev-ok
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright

types: .venv/.dev-ok
	$(BIN)/pyright

bench: .venv/.dev-ok
	$(BIN)/python tests/benchmarks/throughput.py

docs: .venv/.dev-ok
	$(BIN)/python -m pytest tests/house/test_docs.py

build: .venv/.dev-ok
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

check: lint test

# Compiles for the lowest Python, keeps old pins where the ranges allow them, splits off the torch family.
lock:
	cat requirements.lock requirements-torch.lock > .lock.tmp
	uv pip compile --quiet --python-version 3.11 --no-header --no-annotate requirements.in --output-file .lock.tmp
	grep -E  '^(torch|torchvision|triton|nvidia-.*|cuda-.*)==' .lock.tmp | sort > requirements-torch.lock
	grep -vE '^(torch|torchvision|triton|nvidia-.*|cuda-.*)==' .lock.tmp | sort > requirements.lock
	cat .lock.tmp requirements-dev.lock > .lock-dev.tmp
	uv pip compile --quiet --python-version 3.11 --no-header --no-annotate requirements.in requirements-dev.in --output-file .lock-dev.tmp
	sort .lock.tmp > .lock-sorted.tmp
	sort .lock-dev.tmp | comm -13 .lock-sorted.tmp - > requirements-dev.lock
	cat .lock.tmp requirements-ocr.lock > .lock-ocr.tmp
	uv pip compile --quiet --python-version 3.11 --no-header --no-annotate requirements.in requirements-ocr.in --output-file .lock-ocr.tmp
	sort .lock-ocr.tmp | comm -13 .lock-sorted.tmp - > requirements-ocr.lock
	rm -f .lock.tmp .lock-dev.tmp .lock-ocr.tmp .lock-sorted.tmp

clean:
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
