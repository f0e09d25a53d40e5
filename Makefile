# The environment and the commands. `make` alone lists them.
#
# PYTHON=…    the Python to use (default: the first suitable one of the names below)
# GPU=yes|no  the GPU or the CPU build of MXNet (default: by whether an NVIDIA driver is there; on 64-bit Arm the CPU's)

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup repro test lint soak docs bench parity check-gpu clean

PYTHON ?= python3.11 python3.12 python3.10 python3.9 python3 python
suitable := import sys; sys.exit(not ((3, 9) <= sys.version_info[:2] <= (3, 12) and sys.maxsize > 2**32))

GPU ?= $(shell [ "$$(uname -m)" != aarch64 ] && nvidia-smi -L > /dev/null 2>&1 && echo yes || echo no)
device := $(if $(filter yes,$(GPU)),GPU,CPU)
requirements := $(if $(filter yes,$(GPU)),requirements-gpu.txt,requirements.txt)
files := requirements-base.txt $(requirements) constraints.txt
installed := .venv/installed-$(requirements)
developer := .venv/installed-requirements-dev.txt
activated := export PATH="$(CURDIR)/.venv/bin:$$PATH" VIRTUAL_ENV="$(CURDIR)/.venv" &&

help:
	@echo "make setup   make the environment .venv with MXNet for the $(device)"
	@echo "make repro   setup, then run the pipeline (dvc repro)"
	@echo "make test    setup, then lint and all tests"
	@echo "make soak    setup, then the tests that repeat what may fail once in a while, many times (half an hour; docs/reliability.md)"
	@echo "make lint    ruff and mypy"
	@echo "make docs    setup, then make what README.md shows: its transcripts and the picture of the report"
	@echo "make bench   setup, then compare with PyTorch, ONNX Runtime and OpenVINO (half an hour; downloads PyTorch)"
	@echo "make parity  setup, then compare every network's features with PyTorch's (half an hour; downloads PyTorch)"
	@echo "make check-gpu  check the GPU environment on a machine without a GPU (downloads 2 GB)"
	@echo "make clean   remove the environments"

setup: $(installed)

repro: $(installed)
	@$(activated) dvc repro

test: lint
	@$(activated) python -m pytest

lint: $(developer)
	@$(activated) ruff check . && ruff format --check . && mypy

soak: $(developer)
	@$(activated) HEADSTART_SOAK=25 python -m pytest -m soak

docs: $(developer)
	@$(activated) python -m bench.docs

bench: .venv/installed-requirements-bench.txt .venv-peers/installed-peers.txt
	@$(activated) python -m bench

parity: .venv/installed-requirements-bench.txt .venv-peers/installed-peers.txt
	@$(activated) python -m bench.parity

check-gpu: .venv-gpu/installed-requirements-gpu.txt
	@.venv-gpu/bin/python -m tests.check_gpu_environment

.venv-gpu/installed-requirements-gpu.txt: $(installed) requirements-gpu.txt
	@echo "making .venv-gpu: 2 GB to download, 4 GB on disk"
	@rm -rf .venv-gpu && .venv/bin/python -m venv .venv-gpu
	@.venv-gpu/bin/pip install --quiet --disable-pip-version-check -r requirements-gpu.txt
	@touch $@

clean:
	rm -rf .venv .venv-gpu .venv-peers

# Where .venv is activated, its own Python is the first that is found, and is about to be removed.
$(installed): $(files)
	@PATH="$${PATH//"$(CURDIR)/.venv/bin:"/}"; \
	case "$$(uname -s -m) $(GPU)" in "Linux x86_64 "*|"Linux aarch64 no") ;; \
	  "Linux aarch64 "*) echo "error: MXNet has no GPU build for 64-bit Arm: use the CPU with make" \
	    "$(or $(MAKECMDGOALS),setup) GPU=no" >&2; exit 1;; \
	  *) echo "error: headstart runs on Linux on x86-64 and 64-bit Arm, and this is $$(uname -s -m): on Windows use WSL," \
	    "on a Mac a container or virtual machine of Linux" >&2; exit 1;; \
	esac; \
	for python in $(PYTHON); do "$$python" -c '$(suitable)' 2> /dev/null && found=$$python && break; done; \
	if [ -z "$$found" ]; then \
	  echo "error: headstart needs Python 3.9, 3.10, 3.11 or 3.12 (64 bit) and found none as $(PYTHON): install one," \
	    "or name it: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	"$$found" -m stages.backend.libraries || exit 1; \
	new=$$([ $(GPU) = yes ] && nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | sort -n | tail -1); \
	if [ "$${new%%.*}" -ge 9 ] 2> /dev/null; then \
	  echo "error: a GPU of compute capability $$new is too new for MXNet, whose CUDA 11.2 code ends at 8.9 (Ada):" \
	    "use the CPU with make $(or $(MAKECMDGOALS),setup) GPU=no" >&2; exit 1; \
	fi; \
	echo "making .venv with $$($$found --version) for the $(device); this takes a minute or two"; \
	rm -rf .venv && "$$found" -m venv .venv || { rm -rf .venv; \
	  echo "error: $$found cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
	  exit 1; }
	@.venv/bin/pip install --quiet --disable-pip-version-check -r $(requirements)
	@$(activated) python -m stages.backend.mx
	@$(activated) python -m stages.compile
	@touch $@

.venv/installed-requirements-%.txt: requirements-%.txt $(installed)
	@.venv/bin/pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.venv-peers/installed-peers.txt: bench/peers.txt $(installed)
	@rm -rf .venv-peers && .venv/bin/python -m venv .venv-peers
	@.venv-peers/bin/pip install --quiet --disable-pip-version-check -r bench/peers.txt
	@touch $@
