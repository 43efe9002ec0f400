# The two commands to know: `make demo` and `make test`. All need Python 3.11 and a package index only.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard protos/penchant/v1/*.proto)
STUBS := clients/python/src
GOOGLEAPIS := build/googleapis
ARGS ?=
# Test processes, each with servers of its own; on two cores they wait for those half of the time.
JOBS ?= 4

.PHONY: help setup demo serve test test-slow lint format types proto proto-check requirements audit sbom bench bench-long bench-models clean

help: ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(VENV)/.ready ## The virtual environment with everything pinned

KERNELS := setup.py $(wildcard engine/native/*.pxi) $(wildcard engine/native/*.pyx)

$(VENV)/.ready: requirements/build.txt requirements/dev.txt pyproject.toml clients/python/pyproject.toml $(KERNELS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/build.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e clients/python -e .
	@touch $@

demo: setup ## Starts everything, loads made-up books, recommends with reasons (ARGS=--once ends by itself)
	$(BIN)/penchant demo $(ARGS)

serve: setup ## The service with the bundled PostgreSQL and Redis
	$(BIN)/penchant serve $(ARGS)

test: setup ## Everything needed to trust a change
	$(BIN)/pytest -n $(JOBS) --dist loadgroup -m "not slow" $(ARGS)

test-slow: setup ## Faults, long runs and properties with many examples
	$(BIN)/pytest -m slow $(ARGS)

lint: setup proto-check $(GOOGLEAPIS)/.ready ## Style, types, import contracts, protos
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy server engine storage jobs sources tools clients/python/src/penchant benchmarks
	$(BIN)/lint-imports
	$(BIN)/buf lint
	@tag=$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null); \
	if [ -n "$$tag" ]; then $(BIN)/buf breaking --against ".git#tag=$$tag"; \
	else echo "buf breaking: no release tag yet, nothing to compare with"; fi

format: setup ## Formats the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# google.longrunning and what it imports, as the package of their stubs ships them.
$(GOOGLEAPIS)/.ready: $(VENV)/.ready
	@rm -rf $(GOOGLEAPIS) && mkdir -p $(GOOGLEAPIS)/google/api $(GOOGLEAPIS)/google/rpc $(GOOGLEAPIS)/google/longrunning
	@from=$$($(BIN)/python -c "import google.rpc as r, pathlib; print(pathlib.Path(next(iter(r.__path__))).parent)"); \
	cp $$from/api/annotations.proto $$from/api/http.proto $$from/api/client.proto $$from/api/launch_stage.proto \
	  $$from/api/field_behavior.proto $(GOOGLEAPIS)/google/api; \
	cp $$from/rpc/status.proto $(GOOGLEAPIS)/google/rpc; \
	cp $$from/longrunning/operations_proto.proto $(GOOGLEAPIS)/google/longrunning/operations.proto
	@touch $@

proto: setup $(GOOGLEAPIS)/.ready ## Makes the stubs under clients/python anew
	$(BIN)/python -m grpc_tools.protoc -Iprotos -I$(GOOGLEAPIS) \
	  --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	  --python_out=$(OUT) --grpc_python_out=$(OUT) --mypy_out=quiet:$(OUT) --mypy_grpc_out=quiet:$(OUT) \
	  $(PROTOS)
proto: OUT ?= $(STUBS)

proto-check: setup
	@rm -rf build/stubs && mkdir -p build/stubs && $(MAKE) --no-print-directory proto OUT=build/stubs
	@diff -r build/stubs/penchant/v1 $(STUBS)/penchant/v1 -x __pycache__ -x __init__.py \
	  || { echo "the stubs differ from the protos: run make proto"; exit 1; }

requirements: setup ## Pins every dependency anew, by hash
	$(BIN)/python requirements/compile.py

audit: setup ## Known vulnerabilities of what is pinned, and unsafe calls in the code
	$(BIN)/python requirements/audit.py $(if $(ADVISORIES),--advisories $(ADVISORIES))
	$(BIN)/ruff check --select S --ignore S101 server engine storage jobs sources clients requirements

sbom: setup ## The software bill of materials of what runs: build/sbom.cdx.json (CycloneDX)
	@mkdir -p build
	$(BIN)/cyclonedx-py requirements requirements/runtime.txt --pyproject pyproject.toml \
	  --output-reproducible --of JSON -o build/sbom.cdx.json
	@echo "build/sbom.cdx.json"

# The data sets that the rows name, where they are at hand; made-up data of their shape otherwise.
GOWALLA ?= $(wildcard ../shared/data/gowalla)
ML100K ?= $(wildcard ../shared/data/ml-100k)
SPEED = $(BIN)/python -m benchmarks.speed $(if $(GOWALLA),--gowalla $(GOWALLA)) $(if $(ML100K),--ml100k $(ML100K))

bench: setup ## Speed beside bare references, one table and build/bench.json (ARGS=--short: a look)
	$(SPEED) $(ARGS)

bench-long: setup ## The same with up to a million entities and 2,000 tenants
	$(SPEED) --long $(ARGS)

bench-models: setup ## Scoring, training, swapping and noisy neighbours beside their references
	$(BIN)/python -m benchmarks.models $(if $(GOWALLA),--gowalla $(GOWALLA)) $(ARGS)
	$(BIN)/python -m benchmarks.training $(if $(GOWALLA),--gowalla $(GOWALLA)) $(ARGS)
	$(BIN)/python -m benchmarks.swap $(ARGS)
	$(BIN)/python -m benchmarks.noisy $(ARGS)

clean: ## Removes what make made
	rm -rf $(VENV) build engine/native/*.c engine/native/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
