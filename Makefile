# make reproduce   run the chapters and compare what they measure   PRESET=quick|paper  ONLY=05_four_rooms
# make test        ruff, pytest, and nbval over all chapters
# make test-fast   the same without the chapters
# make lab         JupyterLab on the first chapter
# make report      rewrite the README's tables from the records
# make notebooks   (maintainers) execute the quick preset and write it back to notebooks/   ONLY=05_four_rooms
# make study       a long run of its own   NAME=offline_rl
# Each makes the environment .venv where it is missing.

PRESET ?= quick
ONLY ?=
NAME ?=
CORES ?= all
# The first Python that is new enough.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
STUDIES := $(sort minigrid $(basename $(notdir $(wildcard studies/*.yaml))))
SNAKEMAKE := $(BIN)/python -m snakemake --cores $(CORES) --rerun-incomplete --nolock --quiet all

.DEFAULT_GOAL := help
.PHONY: help reproduce test test-fast lab report notebooks study

help:
	@grep '^# make' Makefile | cut -c3-

.venv/ready: pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or later is needed; install it, or name it: make PYTHON=..."; exit 1; }
	@echo "Making the environment .venv (a few minutes, once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[behaviours,d4rl,minari,test]'
	@touch $@

reproduce: .venv/ready
	@$(BIN)/python -m ttlib.batch check --preset '$(PRESET)' $(ONLY)
	@status=0; $(SNAKEMAKE) --keep-going --config preset=$(PRESET) only=$(ONLY) -- chapters || status=1; \
	$(BIN)/python -m ttlib.report table --preset $(PRESET) $(ONLY) || status=1; \
	$(BIN)/python -m ttlib.report readme; exit $$status

report: .venv/ready
	@$(BIN)/python -m ttlib.report readme

notebooks: .venv/ready
	@$(BIN)/python -m ttlib.batch keep $(ONLY)

study: .venv/ready
	@test -n '$(filter $(NAME),$(STUDIES))' || \
		{ echo "error: there is no study '$(NAME)'; there are: $(STUDIES)"; exit 1; }
	@$(SNAKEMAKE) -- $(NAME)

lab: .venv/ready
	@$(BIN)/python -m jupyterlab notebooks/$$(ls notebooks | grep -m1 '^0.*\.ipynb$$')

test-fast: .venv/ready
	@.ci/checks fast

test: .venv/ready
	@.ci/checks all
