# make run: the page on http://127.0.0.1:7860.  make test: everything that CI checks.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 7860
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
BROWSERS := chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable

.PHONY: run test lint format browser clean

run: .venv/app
	HOST=$(HOST) PORT=$(PORT) $(BIN)/python app.py

test: .venv/dev browser lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --durations=10 $(PYTEST)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Only root can install Debian's; without any browser, the browser tests say how to get one.
browser:
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && for name in $(BROWSERS); do \
			apt-get install -qq -y --no-install-recommends $$name fonts-dejavu-core >/dev/null && exit 0; \
		done; exit 1; \
	fi

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache

.venv/app: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

.venv/dev: .venv/app requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	touch $@
