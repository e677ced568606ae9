# make demo    build, and let the tiny embedded model write
# make test    build, and run all tests but those marked nightly; ARGS goes to pytest
# make nightly build, and run every test, the long and exhaustive ones too
# make lint    clang-format, ruff, mypy, who includes whom, what the library exports
# make tidy    clang-tidy, which is minutes; needs clang-tidy
# make site    the pages of docs/ as a site, into build/site; `make site-serve` shows it at
#              http://127.0.0.1:8000 and follows what you write
# make wheel   the wheel, into dist/
# make arm64   the core and pillion-run for arm64, into build/linux-arm64 (tests run them under
#              qemu)
# make android pillion-run for arm64 phones, into build/android-arm64: by the NDK when ANDROID_NDK
# is set, else by zig
# make gpu     on a machine with an NVIDIA GPU: build for it, test, compute-sanitizer, measure,
#              without a network; the table is build/gpu-check/gpu.md
# make clean   everything built
#
# The first run makes .venv and, as root on Debian, installs the missing system packages; later runs
# build only what changed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
BUILD  := build/python
JOBS   ?= $(shell nproc)

export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: demo test nightly lint tidy site site-serve wheel arm64 android gpu build system clean

demo: build
	$(BIN)/pillion demo

C_FILES := '*.c' '*.cpp' '*.h' '*.cu' '*.cuh' '*.inl' '*.inc' '*.def'

# tests/support/file_order.py orders the files: long ones first, so that no core idles at the end.
PYTEST = $(BIN)/python -m pytest -ra -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: build
	$(PYTEST) -m "not nightly" $(ARGS)

nightly: build
	$(BIN)/pip install --quiet $$($(BIN)/python tools/requirements.py reference)
	$(PYTEST) $(ARGS)

lint: build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files $(C_FILES) | grep -v -e unicode_tables.inc -e core/grids.h -e ^third_party/ \
	    | xargs $(BIN)/clang-format --dry-run --Werror
	$(BIN)/mypy
	$(BIN)/python tools/check_includes.py
	$(BIN)/python tools/check_exports.py $(BUILD)/libpillion.so $(BUILD)

tidy: build
	@tidy=$$(command -v clang-tidy || command -v clang-tidy-14) && git ls-files 'csrc/*.cpp' \
	    | grep -v -e backends/cpu/arm -e 'x86_.*/matmul' -e runtime_cuda -e run/decode_ \
	    | xargs -n 1 -P $(JOBS) $$tidy -p $(BUILD) --quiet

# An editable install: the Python files are used where they are, the compiled parts are built
# incrementally.
build: $(VENV)/.ready
	@$(BIN)/pip install --quiet --no-build-isolation --no-deps --editable . \
	    -C build-dir=$(BUILD) -C cmake.define.PILLION_TESTING=ON -C cmake.define.PILLION_CUDA=SIM \
	    -C cmake.define.PILLION_HTP=ON -C cmake.define.PILLION_HTP_SIM_THIS_MACHINE=ON

$(VENV)/.ready: pyproject.toml tools/system_packages.sh
	bash tools/system_packages.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "scikit-build-core>=0.10" "cmake>=3.21,<4" ninja
	$(BIN)/pip install --quiet \
	    $$($(BIN)/python tools/requirements.py test convert structured media server hub ray \
	        langchain plot cross docs)
	touch $@

# Its theme prints news about itself, which are no warnings of the build.
site site-serve: export NO_MKDOCS_2_WARNING := 1

site: $(VENV)/.ready
	$(BIN)/python -m mkdocs build --strict

site-serve: $(VENV)/.ready
	$(BIN)/python -m mkdocs serve --strict

wheel: $(VENV)/.ready
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

arm64:
	cmake --preset linux-arm64
	cmake --build --preset linux-arm64

android: $(VENV)/.ready
	cmake --preset android-arm64 -DZIG_PYTHON=$(CURDIR)/$(BIN)/python
	cmake --build --preset android-arm64

gpu:
	bash tools/gpu_check.sh

clean:
	rm -rf build dist $(VENV)
