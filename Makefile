# make run: the synthetic demo from nothing to a submission.   make test: lint and every test.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   := data/demo
REALISTIC := experiments/realistic/SETTINGS.json
JOBS   ?= $(shell $(PYTHON) -c "import os; print(os.cpu_count() or 1)")

export EXPERIMENT := experiments/demo
export SETTINGS   := $(EXPERIMENT)/SETTINGS.json
export FOLD JOBS
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run demo-data test faults test-long mutation verify lint format systems recipes systems-full bench results clean

run: $(VENV)/core demo-data
	PREPARE_FLAGS="--size 256 --crop --folds 3" bash steps/1_prepare_data.sh
	bash steps/2_train_stage1.sh
	bash steps/3_train_stage2.sh
	bash steps/4_predict.sh
	bash steps/5_ensemble.sh

demo-data: $(VENV)/core
	python -m src.data.phantom --out $(DEMO)/raw --studies 160 --seed 1 --jobs $(JOBS)

test: $(VENV)/all lint
	python -m pytest -n $(JOBS) tests

# The long form of what `make test` runs in short: kills, mutants and other faults, twenty minutes or more.
faults: $(VENV)/all
	ICH_FAULTS=long python -m pytest tests/faults

test-long: test faults

# Small mistakes put into the source, and whether its tests notice; hours, goes on where it was stopped.
mutation: $(VENV)/all
	python -m tests.mutation

# A recorded small experiment computed again and compared: two minutes on a processor core of its own.
verify: $(VENV)/core
	python -m src.audit.verify --jobs $(JOBS)

lint: $(VENV)/all
	ruff check .
	ruff format --check .

format: $(VENV)/all
	ruff check --fix .
	ruff format .

# The five papers; `make recipes` puts the contest winners' recipes and two later ones beside them.
PAPERS := scopeformer cnn_lstm vivit_vs_convnext resnext_pca_bilstm dtvit

systems: WHICH := --systems $(PAPERS)
systems recipes: $(VENV)/all demo-data
	PREPARE_FLAGS="--size 256 --crop --folds 3" bash steps/1_prepare_data.sh
	python -m src.audit.systems --settings $(SETTINGS) --jobs $(JOBS) $(WHICH) --out results/systems.json
	python predict.py experiments/published_systems --settings $(SETTINGS) --jobs $(JOBS)
	python ensemble.py experiments/published_systems --settings $(SETTINGS)

# Every fold from three seeds, then the harder synthetic data: most of a day on two cores, resumed where stopped.
systems-full: $(VENV)/all demo-data
	PREPARE_FLAGS="--size 256 --crop --folds 3" bash steps/1_prepare_data.sh
	python -m src.audit.systems --settings $(SETTINGS) --jobs $(JOBS) --folds 0 1 2 --seeds 0 1 2 \
		--out results/systems_full.json
	python -m src.data.phantom --preset realistic --size 256 --studies 300 --seed 1 --jobs $(JOBS) \
		--out data/realistic/raw
	SETTINGS=$(REALISTIC) PREPARE_FLAGS="--size 256 --crop --folds 2" bash steps/1_prepare_data.sh
	python -m src.audit.systems --settings $(REALISTIC) --jobs $(JOBS) --folds 0 1 \
		--out results/systems_realistic.json

bench: $(VENV)/all
	for part in benchmarks/bench_*.py; do python -m benchmarks.$$(basename $$part .py) || exit 1; done

results: $(VENV)/core
	python -m src.report.generated
	python -m src.report.configuration

clean:
	rm -rf data/demo submissions/demo .pytest_cache .ruff_cache .mypy_cache

# Whether requirements.lock is for this machine: it has hashes of one platform's files, of the index alone.
KIND := import platform as p, sys; print(p.system(), p.machine(), *sys.version_info[:2])
LOCK_FITS = test "$$($(BIN)/python -c '$(KIND)')" = "Linux x86_64 3 11" && \
	! $(BIN)/python -m pip config list | grep -qE "find-links|index-url|constraint"

# An environment is complete when its mark is newer than the lists it was made from.
$(VENV)/core: requirements.txt requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	if $(LOCK_FITS); then list="--require-hashes -r requirements.lock"; else list="-r requirements.txt"; fi; \
	$(BIN)/python -m pip install --disable-pip-version-check -q $$list
	touch $@

$(VENV)/all: requirements-dev.txt requirements-extra.txt $(VENV)/core
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements-dev.txt -r requirements-extra.txt
	touch $@
