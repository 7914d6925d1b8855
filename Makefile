# Each target sets up .venv by itself the first time, and again when what it is made from has changed.
#   make run RUN_ARGS="model=beta_vae trainer.max_epochs=20"     make test ARGS="-k figures"
PYTHON ?= python3
RUN_ARGS ?=
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup run test app lint format
.DEFAULT_GOAL := run

setup: $(STAMP)

$(STAMP): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

run: $(STAMP)
	$(BIN)/python run_experiment.py $(RUN_ARGS)

# One thread a process: tests start processes of their own, and threads that outnumber the cores only wait. Files come in
# their order: by default those of few tests come last, which are the slow ones, and one worker waits for the other.
# Twenty minutes on two quiet cores are the aim; what is busy gets five more before the session is ended.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --session-timeout=1500 $(ARGS)

app: $(STAMP)
	$(BIN)/python -m streamlit run app.py $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
