# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` need Linux, Python 3.11 to 3.13 and a C++ compiler, nothing else:
# .ci/bootstrap.py makes .venv and skips what is already done.

PYTHONS := $(foreach name,python3 python3.11 python3.12 python3.13,$(shell command -v $(name)))
BOOTSTRAP := $(or $(firstword $(PYTHONS)),python3) .ci/bootstrap.py
BIN := .venv/bin
CMAKE := $(BIN)/cmake
CONFIGURE := $(CMAKE) -S . -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja \
             -DCMAKE_PREFIX_PATH=$(CURDIR)/.cache/cpp/usr
# $(call cpp_build,FOLDER,OPTIONS): configures (quietly, unless it fails) and builds build/FOLDER.
define cpp_build
	@mkdir -p build
	@$(CONFIGURE) -B build/$(1) $(2) > build/$(1).log || { cat build/$(1).log; false; }
	@$(CMAKE) --build build/$(1)
endef
# Byte code is not made when packages are installed (most of it never is used), so it has to be kept
# when first made: without, vLLM takes twice as long to import, in each of its processes.
unexport PYTHONDONTWRITEBYTECODE
# Two tests at a time, here and in pytest: for two cores.
CTEST := $(BIN)/ctest --parallel 2 --output-on-failure --test-dir
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile
PYTEST_ARGS ?=
DEMO_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-cpp test-sanitized test-python test-wheel bench measure lint format stub wheel clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

demo:  ## Tool-calling chat, then real agent prompts under overload: stock vLLM against LAMPS
	@$(BOOTSTRAP) venv vllm package prompts model
	@$(BIN)/python -m lamps_vllm.demo $(DEMO_ARGS)

test: test-cpp test-sanitized test-python test-wheel  ## All tests: C++, sanitizers, Python, wheel

test-cpp:  ## C++ tests, release build
	@$(BOOTSTRAP) venv vllm package cpp
	$(call cpp_build,tests,-DLAMPS_BUILD_TESTS=ON)
	@$(CTEST) build/tests

test-sanitized:  ## C++ tests with AddressSanitizer and UndefinedBehaviorSanitizer
	@$(BOOTSTRAP) venv vllm package cpp
	$(call cpp_build,sanitized,-DLAMPS_BUILD_TESTS=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo -DLAMPS_CUDA=OFF \
	    -DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 "-DLAMPS_SANITIZE=address;undefined")
	@$(CTEST) build/sanitized

test-python:  ## Python tests: unit, property, golden, engine (real vLLM)
	@$(BOOTSTRAP) venv vllm package prompts model
	@$(PYTEST) tests/python --ignore tests/python/engine $(PYTEST_ARGS)
	@$(PYTEST) tests/python/engine $(PYTEST_ARGS)

test-wheel:  ## Build the wheel, check its contents, use it in clean environments
	@$(BOOTSTRAP) venv vllm package
	@$(BIN)/python .ci/check_wheel.py

bench:  ## Benchmarks of the core (C++) and of the scheduler shim (Python)
	@$(BOOTSTRAP) venv vllm package cpp
	$(call cpp_build,bench,-DLAMPS_BUILD_BENCHMARKS=ON)
	@for binary in build/bench/bin/bench_*; do $$binary || exit 1; done
	@$(BIN)/python benchmarks/python/bench_swap_plan.py
	@$(BIN)/python benchmarks/python/bench_shim.py

MEASURE := $(BIN)/lamps compare --seeds 3 --arm stock --arm priority --arm lamps
measure:  ## Workloads A, B and C over HTTP against stock vLLM (about 80 minutes on two idle cores)
	@$(BOOTSTRAP) venv vllm package
	@$(MEASURE) --arm lamps-no-id --rate 3.15 --out results/A
	@$(MEASURE) --rate 0.79 --out results/B
	@$(MEASURE) --rate 3.15 --call-scale 1.0 --out results/C

lint:  ## ruff and clang-format, changing nothing
	@$(BOOTSTRAP) venv vllm package
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@git ls-files -co --exclude-standard '*.h' '*.cc' '*.cu' | xargs $(BIN)/clang-format --dry-run -Werror

format:  ## ruff and clang-format, in place
	@$(BOOTSTRAP) venv vllm package
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .
	@git ls-files -co --exclude-standard '*.h' '*.cc' '*.cu' | xargs $(BIN)/clang-format -i

stub:  ## Regenerate lamps_ext/_core.pyi from the built module
	@$(BOOTSTRAP) venv vllm package
	@$(BIN)/python .ci/make_stub.py lamps_ext/_core.pyi

wheel:  ## Build the wheel into dist/
	@$(BOOTSTRAP) venv vllm package
	@$(BIN)/pip wheel --no-deps --no-build-isolation --wheel-dir dist .

clean:  ## Remove builds and results (keeps .venv and .cache)
	rm -rf build dist results .pytest_cache .ruff_cache .hypothesis
