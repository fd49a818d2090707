# Everything a fresh checkout needs: `make demo` to see it work, `make test` to check it.
# Variables: PYTHON (3.11 or newer) makes the .venv; NO_APT=1 never installs system packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check models compare bench screenshots wheel clean

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

# The bundled models, each: training (seeded; goes on where it was stopped), export, figures on ten unseen phantoms, card.
# One alone: make model-hpn-phantom. The runs lie in runs/<model>-s1.
# `abdomen` needs the label maps of docs/atlases.md in MULTIPHASE_ATLASES, and the scans of docs/real_ct.md. The twin of all but its
# last part, abdomen-wide-four, leaves one person out and is measured on that person's scan.
MODELS := pcn-phantom pcn-phantom-translate hpn-phantom urim-phantom pann-phantom csgan-phantom
BUNDLED := src/napari_multiphase/models
PATHOLOGIES_hpn-phantom := --pathologies pancreas
PATHOLOGIES_urim-phantom := --pathologies liver
TRANSLATING := pcn-phantom-translate csgan-phantom
FOR_REAL_CT := abdomen
COMPARED_pcn := pcn-phantom-translate

models: $(MODELS:%=model-%)

.PRECIOUS: runs/%-s1/model/model.json
runs/abdomen-four-s1/model/model.json: runs/abdomen-first-s1/model/model.json
runs/abdomen-five-s1/model/model.json runs/abdomen-still-four-s1/model/model.json: runs/abdomen-four-s1/model/model.json
runs/abdomen-still-five-s1/model/model.json: runs/abdomen-five-s1/model/model.json
runs/abdomen-next-four-s1/model/model.json: runs/abdomen-still-four-s1/model/model.json
runs/abdomen-next-five-s1/model/model.json: runs/abdomen-still-five-s1/model/model.json
runs/abdomen-large-five-s1/model/model.json: runs/abdomen-next-five-s1/model/model.json
runs/abdomen-oral-five-s1/model/model.json: runs/abdomen-large-five-s1/model/model.json
runs/abdomen-s1/model/model.json: runs/abdomen-oral-five-s1/model/model.json
runs/abdomen-last-four-s1/model/model.json: runs/abdomen-next-four-s1/model/model.json
runs/abdomen-wide-four-s1/model/model.json: runs/abdomen-last-four-s1/model/model.json
model-abdomen: runs/abdomen-wide-four-s1/model/model.json

runs/%-s1/model/model.json: | $(STAMP)
	@if [ -f runs/$*-s1/run.yaml ]; then $(BIN)/multiphase train --resume runs/$*-s1; \
	else $(BIN)/multiphase train experiments/$*.yaml --seed 1 --out runs/$*-s1; fi

model-%: runs/%-s1/model/model.json
	$(BIN)/multiphase export runs/$*-s1 $(BUNDLED)/$*
	$(BIN)/python benchmarks/phantom_dice.py --model $(BUNDLED)/$* $(PATHOLOGIES_$*)
	$(if $(filter $*,$(TRANSLATING)),$(BIN)/python benchmarks/synthetic_hu.py --model $(BUNDLED)/$*)
	$(if $(filter $*,$(FOR_REAL_CT)),$(BIN)/python benchmarks/real_ct.py --model runs/$*-wide-four-s1/model)
	$(if $(filter $*,$(FOR_REAL_CT)),$(BIN)/python benchmarks/real_ct.py --model $(BUNDLED)/$*)
	$(BIN)/python benchmarks/write_card.py $(BUNDLED)/$*

# Each method beside its baselines, three training seeds: hours. One alone: make compare-urim.
compare: compare-pcn compare-hpn compare-urim compare-pann compare-csgan

compare-%: $(STAMP)
	$(BIN)/python benchmarks/methods.py --family $* --commands > runs-$*.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" sh -e runs-$*.sh && rm runs-$*.sh
	$(BIN)/python benchmarks/methods.py --family $*
	$(BIN)/python benchmarks/write_card.py $(BUNDLED)/$(or $(COMPARED_$*),$*-phantom)

bench: $(STAMP)
	$(BIN)/pip install -q -c $(CONSTRAINTS) -e '.[bench]'
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/trainer.py

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
