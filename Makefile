# Needs make and a Python from 3.10 to 3.14; everything else is installed into .venv, at the versions of constraints.txt.

# The newest for which LCE has wheels is taken, then the newest: make PYTHON=… for another one.
PYTHONS := python3.12 python3.11 python3.10 python3.14 python3.13 python3
IS_SUPPORTED := import ensurepip, sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))
PYTHON ?= $(shell for python in $(PYTHONS); do $$python -c "$(IS_SUPPORTED)" 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
# Python compiles what it imports: pip would compile all of PyTorch and TensorFlow, which takes half of the time.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable

EXAMPLE := examples/fashion_mnist
DEMO_FILE := build/fashion_mnist.tflite

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow sysroots test-emulated verify-emulated onnx-backend conformance conformance-delegate constraints wheels lint docs fuzz fuzz-runtime fuzz-built fuzz-preparation fuzz-interpreter torture bench bench-command bench-growth bench-against bench-install bench-graph bench-lce bench-baseline bench-runtime bench-arm bench-boards costs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/installed-base ## compile the trained Fashion-MNIST network and check the file on 1,000 test images
	mkdir -p $(dir $(DEMO_FILE))
	$(BIN)/bnncc compile $(EXAMPLE)/net.py:make_net --weights $(EXAMPLE)/net.pth --data $(EXAMPLE)/test_images.npz \
		--pixels 0..255 --input-shape 1x1x28x28 --target raspberry-pi-4 -o $(DEMO_FILE)

# Two workers of one thread each: numeric libraries that start a thread per core would only fight each other.  Tests that
# share a compiled network (xdist_group) run in one of them.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

test: $(VENV)/installed-dev ## run the tests, the same in every run
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/installed-dev ## run those that take long: full-size networks, emulated ARM, sanitizers, random networks
	$(PYTEST) -m slow

# Debian and Python packages for ARM, fetched once; tests that need them are skipped where BNNCC_SYSROOTS names none.
SYSROOTS ?= build/sysroots

sysroots: | $(VENV)/bin/python ## fetch what emulated ARM needs (with qemu-user-static, mmdebstrap and npm)
	$(BIN)/python -m tests.targets.runtime.sysroot $(SYSROOTS)

test-emulated: $(VENV)/installed-dev sysroots ## run the delegate and bundles, on emulated ARM as well
	BNNCC_SYSROOTS=$(abspath $(SYSROOTS)) $(PYTEST) tests/targets/runtime tests/bundle

# The networks that `make verify-emulated` runs: make verify-emulated NETWORKS="reactnet_a vgg_small"
NETWORKS ?=

verify-emulated: $(VENV)/installed-dev sysroots ## prove all networks, full-size ones too, here and on emulated ARM, and print a table
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.targets.runtime.verify_emulated --sysroots $(SYSROOTS) $(NETWORKS)

onnx-backend: $(VENV)/installed-dev ## compile and run all of ONNX's own node tests, and write docs/onnx_operators.md
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.targets.tflite.onnx_backend

# Which runtimes `make conformance` and `make conformance-delegate` run, all by default: make conformance RUNTIMES="litert-1.4.0 bnncc"
RUNTIMES ?=

# What is interrupted goes on where it stopped: build/conformance keeps what was found.
conformance: $(VENV)/installed-dev sysroots ## run every network, and every form of every operator, in every released runtime, and write docs/conformance.md (needs Python 3.8, 3.9 and 3.11; most of an hour on two cores)
	OMP_NUM_THREADS=1 BNNCC_SYSROOTS=$(abspath $(SYSROOTS)) $(BIN)/python -m tests.conformance build/conformance $(RUNTIMES)

conformance-delegate: $(VENV)/installed-dev sysroots ## try the delegate, and LiteRT's CompiledModel with it, in every released runtime, and write docs/conformance_delegate.md (15 minutes)
	OMP_NUM_THREADS=1 BNNCC_SYSROOTS=$(abspath $(SYSROOTS)) $(BIN)/python -m tests.conformance.delegate build/conformance $(RUNTIMES)

# The versions that are there stay where they fit every Python and platform of pyproject.toml; delete a line for a newer one.
constraints: | $(VENV)/bin/python ## write constraints.txt anew, after a change to the requirements, for every Python and platform (fetches uv)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --all-extras --only-binary :all: --no-annotate \
		--custom-compile-command 'make constraints' --output-file constraints.txt pyproject.toml

docs: $(VENV)/installed-docs ## build the pages into build/docs, with warnings as errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheels: $(VENV)/installed-wheels ## make the wheels and sdists of bnncc and bnncc-runtime in dist/, for every platform
	$(BIN)/python -m bnncc.wheels

lint: $(VENV)/installed-dev ## ruff check, ruff format --check, mypy --strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict
	MYPYPATH=targets/bnncc_runtime $(BIN)/mypy --strict --package bnncc_runtime

# How many random networks `make fuzz` compiles: make fuzz N=5000
N ?= 1000

fuzz: $(VENV)/installed-dev ## run the property tests on fresh examples, then compile N random networks and prove each file (N=1000)
	$(PYTEST) -m hypothesis --hypothesis-profile fuzz
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz $(N)

# How long `make fuzz-runtime` runs: make fuzz-runtime SECONDS=60
SECONDS ?= 3600

fuzz-runtime: fuzz-preparation fuzz-interpreter ## fuzz the delegate's preparation and the interpreter, each for SECONDS; -j 2 for both at once (needs cmake, clang and its libclang-rt)

fuzz-built: $(VENV)/installed-dev
	cmake -S targets/runtime -B build/fuzz -DBNNCC_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++
	cmake --build build/fuzz --parallel 2 --target fuzz_preparation fuzz_interpreter
	mkdir -p build/fuzz/corpus build/fuzz/interpreter_corpus
	$(BIN)/python -m tests.targets.interpreter.corpus build/fuzz/interpreter_corpus

fuzz-preparation: fuzz-built
	build/fuzz/fuzz_preparation build/fuzz/corpus -max_len=400 -max_total_time=$(SECONDS)

fuzz-interpreter: fuzz-built
	build/fuzz/fuzz_interpreter build/fuzz/interpreter_corpus -max_len=8000 -max_total_time=$(SECONDS)

# How long `make torture` fuzzes each part of the native code: make torture FUZZ=3600
FUZZ ?= 60

torture: $(VENV)/installed-dev ## damaged files, faults and odd command lines, and write docs/reliability.md (about 20 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.torture --fuzz $(FUZZ)

bench: $(VENV)/installed-base ## measure compile time and memory, stage by stage
	$(BIN)/python benchmarks/compile_time.py

bench-command: $(VENV)/installed-base ## measure the CPU time of bnncc compile as a command, stage by stage, beside torch's own export
	$(BIN)/python benchmarks/compile_command.py

bench-growth: $(VENV)/installed-base ## measure each pass on 25 to 200 blocks: what is linear takes the same time a block
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/growth.py

# The revision that `make bench-against` and `make bench-install` compare with.
REV ?= 6a908d8

bench-against: $(VENV)/installed-dev ## measure whole networks beside an earlier revision's, in turns: make bench-against REV=6a908d8
	$(BIN)/python benchmarks/against.py $(REV)

bench-install: $(VENV)/bin/python ## measure an installation's size and the CPU time of bnncc inspect beside an earlier revision's: make bench-install REV=6a908d8
	$(BIN)/python benchmarks/installed.py $(REV)

bench-lce: $(VENV)/installed-base ## compare larq-zoo's networks, compiled by bnncc, with LCE's own converter's files (fetches TensorFlow)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/lce/compare.py

bench-graph: $(VENV)/installed-base ## count operators and bytes of the compiled networks, and each pass's share
	$(BIN)/python benchmarks/graph.py

bench-baseline: $(VENV)/installed-baseline ## put the binary files beside the float files of onnx2tf and TensorFlow
	$(BIN)/python benchmarks/baseline.py

bench-runtime: $(VENV)/installed-base ## put the delegate beside LCE's kernels and XNNPACK's float ones, on x86-64
	$(BIN)/python benchmarks/runtime.py

bench-arm: $(VENV)/installed-dev sysroots ## count the ARM kernels' instructions and cycles (needs llvm-19 and qemu-user as well)
	$(BIN)/python benchmarks/arm.py --sysroots $(SYSROOTS)

# What `make bench-boards` runs without NETWORKS.
BOARD_NETWORKS := quicknet bireal_net_18 reactnet_a

bench-boards: $(VENV)/installed-dev ## put the predicted latency of networks beside their inference on emulated cores (needs llvm-19 and qemu-user)
	$(BIN)/python benchmarks/arm.py $(addprefix --network ,$(or $(NETWORKS),$(BOARD_NETWORKS)))

costs: $(VENV)/installed-dev ## fit anew what work costs on the cores, after a change to the kernels, and write targets/core_costs.py (needs llvm-19 and qemu-user)
	$(BIN)/python benchmarks/arm.py --costs

clean: ## remove what make made: .venv, build/, caches
	rm -rf $(VENV) build dist bnncc.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamp files: a set of packages is installed again only when the project's requirements change.
$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "none of $(PYTHONS) here is Python 3.10 to 3.14 with its module ensurepip" \
		"(Debian: apt install python3-venv); name another one: make PYTHON=…" >&2; exit 1; }
	@echo "$(VENV) is made with $(PYTHON), $$($(PYTHON) --version)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-base: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) '.[lce]'
	touch $@

$(VENV)/installed-%: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) '.[$*]'
	touch $@
