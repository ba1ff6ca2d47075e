# make run: the page on http://127.0.0.1:7860.  make test: everything that CI checks.
# make audit: asks PyPI's advisories about the lock.
# make lock: renews requirements*.txt.  make newest, make oldest: the ends of pyproject's ranges.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 7860
BIN := .venv/bin
PIP := python -m pip install --quiet --disable-pip-version-check
# One more than there are cores: page and downloads wait half of the time.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(min(4, (os.cpu_count() or 1) + 1))")
BROWSERS := chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable

# What touches the libraries most: the engine, every family, custom_generate, the page's handlers.
QUICK := $(addprefix tests/,contract/test_custom_generate.py contract/test_families.py \
	forward/test_encoder_decoder.py forward/test_strict_numerics.py forward/test_packed_linear.py \
	models/test_load.py measuring/test_bench.py models/test_widen.py web/test_app.py \
	render/test_charts.py cli/test_cli.py test_quiet.py)
ENDS := newest oldest
COMPILE := .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.10 \
	--no-header --annotation-style line
RENEWED := made by "make lock" from the ranges in pyproject.toml

.PHONY: run test lint format browser clean lock audit $(ENDS)

run: .venv/app
	HOST=$(HOST) PORT=$(PORT) $(if $(PAIR),STAIRS_PAIR="$(PAIR)") $(BIN)/python app.py

# The lint runs beside the first tests.
test: .venv/dev browser
	$(MAKE) lint & LINT=$$!; \
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=10 $(PYTEST) && wait $$LINT

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

# --strict: a package that the advisories cannot be asked about is a failure, and not a pass.
audit:
	test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && .venv-audit/bin/$(PIP) pip-audit; }
	.venv-audit/bin/pip-audit --strict --no-deps --disable-pip -r requirements.txt -r requirements-dev.txt

# torch's wheels name their own CUDA packages, exactly: left out here, any of them fits.
lock:
	test -x .venv-lock/bin/uv || { $(PYTHON) -m venv .venv-lock && .venv-lock/bin/$(PIP) uv; }
	cd .venv-lock && rm -f *.txt && touch all.txt
	$(COMPILE) --upgrade pyproject.toml --group dev --group lock -o .venv-lock/all.txt >/dev/null
	cp .venv-lock/all.txt .venv-lock/run.txt && cp .venv-lock/all.txt .venv-lock/dev.txt
	$(COMPILE) pyproject.toml -o .venv-lock/run.txt >/dev/null
	$(COMPILE) --group pyproject.toml:dev -o .venv-lock/dev.txt >/dev/null
	sed -i -E '/^(cuda|nvidia|triton)/d' .venv-lock/run.txt
	{ echo '# Everything that runs, for Python 3.10 to 3.13: $(RENEWED).'; \
		grep 'pyproject' .venv-lock/run.txt; \
		echo; echo '# What those need:'; grep -v 'pyproject' .venv-lock/run.txt; } >requirements.txt
	{ echo '# The tools of "make test": $(RENEWED).'; cat .venv-lock/dev.txt; } >requirements-dev.txt

$(ENDS): browser
	test -x .venv-$@/bin/python || $(PYTHON) -m venv .venv-$@
	.venv-$@/bin/$(PIP) --upgrade pip
	$(FLOORS) pyproject.toml >.venv-$@/constraints.txt
	.venv-$@/bin/$(PIP) --upgrade --upgrade-strategy eager -c .venv-$@/constraints.txt -e . --group dev
	.venv-$@/bin/python -m pip freeze | grep -E '^(torch|transformers|accelerate|gradio|plotly)='
	OMP_NUM_THREADS=1 .venv-$@/bin/pytest $(or $(PYTEST),$(QUICK))

newest: FLOORS := true
oldest: FLOORS := sed -n 's/^ *"\([a-z-]*\)>=\([^,"]*\),.*/\1==\2/p'

clean:
	rm -rf .venv .venv-* build *.egg-info .pytest_cache .ruff_cache

# The lock brings setuptools, so nothing is fetched to build with either.
.venv/app: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/$(PIP) -r requirements.txt
	$(BIN)/$(PIP) --no-deps --no-build-isolation -e .
	touch $@

.venv/dev: .venv/app requirements-dev.txt
	$(BIN)/$(PIP) -r requirements.txt -r requirements-dev.txt
	touch $@
