# make demo   the whole system on this machine: sets itself up, indexes a picture-book, searches it, serves until Ctrl-C
#             ONCE=1 ends after the searches; PORT=8001 serves there
# make serve  the service alone, as serve_config.yaml says; PORT=8001 serves there, INGRESS=plain without HAProxy
# make test   every test        make check   ruff and mypy        make clean   remove the environment and what runs left
# make bench  every benchmark of a CPU, on a quiet machine, and one table of them; ONLY=encoder one of them
# make parity every family of models beside plain OpenCLIP, at its true size, with random weights; ONLY="RN50 ViT-H-14" takes some
#
# Every target makes its own environment in .venv, once. What it needs: Python 3.11 and a package index.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := demo
.PHONY: demo serve test check parity bench clean

PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
# pip's settings name the index of this machine, where it has its own; uv does not read them.
INDEX = index="$$($(VENV)/bin/python -m pip config get global.index-url 2>/dev/null || true)"; \
	index="$${PIP_INDEX_URL:-$$index}"; if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}"; fi

demo: $(VENV)/.ready
	@$(RUN) -m serve_app.demo.run $(if $(ONCE),--once) $(if $(PORT),--port $(PORT))

serve: $(VENV)/.ready
	@$(VENV)/bin/crossmodal serve $(if $(PORT),--port $(PORT)) $(if $(INGRESS),--ingress $(INGRESS))

# In two halves at a time: browsers and real clusters wait for processes to start, while the rest computes. In one thread, since
# threads that wait for each other while others want the cores are slow.
test: $(VENV)/.ready-dev
	@$(BROWSER)
	@$(RUN) -m tests.emulators
	@mkdir -p var; status=0; \
	OMP_NUM_THREADS=1 $(RUN) -m pytest --ignore tests/browser --ignore tests/cluster -p no:cacheprovider >var/tests.log 2>&1 & rest=$$!; \
	trap "kill $$rest 2>/dev/null || true" EXIT; \
	$(RUN) -m pytest tests/browser tests/cluster || status=$$?; \
	wait $$rest || status=$$?; \
	cat var/tests.log; exit $$status

check: $(VENV)/.ready-dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

parity: $(VENV)/.ready
	@$(RUN) -m benchmarks.parity --all $(if $(ONLY),--only $(ONLY)) $(if $(PRECISION),--precision $(PRECISION))

bench: $(VENV)/.ready-dev
	@$(INDEX); $(RUN) -m benchmarks $(ONLY)

clean:
	rm -rf $(VENV) var .mypy_cache .ruff_cache .pytest_cache

# The environment. A stamp stands for each of its two sizes; a changed list of packages makes it anew. Compiled once here, in
# parallel, Python's files load three times as fast in each of the processes that Ray starts, also where none may write.
$(VENV)/.ready: pyproject.toml constraints.txt | $(VENV)/bin/uv
	@start=$$SECONDS; $(INDEX); echo "Setting up the environment in $(VENV) (torch is large) ..."; \
	$(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(RUN) --constraints constraints.txt --editable .; \
	touch $@; echo "The environment is ready after $$((SECONDS - start)) s."

$(VENV)/.ready-dev: $(VENV)/.ready
	@start=$$SECONDS; $(INDEX); \
	$(VENV)/bin/uv pip install --quiet --compile-bytecode --python $(RUN) --constraints constraints.txt --group dev; \
	touch $@; echo "The tools for tests and checks are ready after $$((SECONDS - start)) s."

# uv comes through pip, so that nothing has to be on the machine before.
$(VENV)/bin/uv:
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(RUN) -m ensurepip --upgrade >/dev/null
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv

# The tests of the page drive Debian's Chromium.
define BROWSER
if ! command -v chromedriver >/dev/null || ! command -v chromium >/dev/null; then \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing chromium and chromium-driver for the tests of the page ..."; \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium chromium-driver; } >/dev/null; \
	else \
		echo "The tests of the page need a browser: install the packages chromium and chromium-driver." >&2; exit 1; \
	fi; \
fi
endef
