# Everything a fresh checkout needs: `make demo` to see it work, `make test` to check it.
# Variables: PYTHON (3.11 or newer) makes the .venv; NO_APT=1 never installs system packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check models bench screenshots wheel clean

demo: $(STAMP)
	@./tools/system-libraries.sh
	@if [ "$$(uname -s)" = Linux ] && [ -z "$$DISPLAY$$WAYLAND_DISPLAY" ]; then \
	  ./tools/with-display.sh $(BIN)/python -m napari_multiphase.gui.demo --screenshots demo; \
	else \
	  $(BIN)/python -m napari_multiphase.gui.demo; \
	fi

test: $(STAMP)
	@./tools/system-libraries.sh
	$(MAKE) check
	@./tools/with-display.sh $(BIN)/python -m pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/npe2 validate napari.yaml

models: $(STAMP)
	$(BIN)/multiphase train experiments/pcn-phantom.yaml --out runs/pcn-phantom
	$(BIN)/multiphase export runs/pcn-phantom src/napari_multiphase/models/pcn-phantom
	$(BIN)/python benchmarks/phantom_dice.py --model pcn-phantom
	$(BIN)/python benchmarks/write_card.py src/napari_multiphase/models/pcn-phantom

bench: $(STAMP)
	$(BIN)/pip install -q -c $(CONSTRAINTS) -e '.[bench]'
	$(BIN)/python benchmarks/inference.py

screenshots: $(STAMP)
	@./tools/with-display.sh $(BIN)/python docs/screenshots.py

wheel: $(STAMP)
	$(BIN)/python -m build

# CPU torch unless this machine has a CUDA device.
CONSTRAINTS := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi >/dev/null 2>&1 && echo constraints-cuda.txt || echo constraints-cpu.txt)

$(STAMP): pyproject.toml constraints-cpu.txt constraints-cuda.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q -c $(CONSTRAINTS) -e '.[dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) demo dist build
