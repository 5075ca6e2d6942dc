# make demo: the whole walk on a public-domain portrait, into out/demo
# make test: the whole test suite; make lint, make bench as they say. Each sets up .venv first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# the ground floor alone, and Blender 5.2, on Python 3.13 with numpy 2: make test-ground test-blender-5
GROUND_PYTHON ?= python3.13
GROUND := .venv-ground

.PHONY: demo test lint bench test-ground test-blender-5 clean

demo: $(READY)
	$(BIN)/mvp4d demo -o out/demo

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(READY)
	$(BIN)/mvp4d bench splats --json

test-ground:
	test -x $(GROUND)/bin/python || $(GROUND_PYTHON) -m venv $(GROUND)
	$(GROUND)/bin/pip install -q "numpy>=2" scipy pytest hypothesis safetensors plyfile Pillow av
	$(GROUND)/bin/python -m pytest tests/rig tests/avatar tests/io tests/test_*.py

# the add-on in Blender 5.2, whose module wants Python 3.13
test-blender-5: test-ground
	$(GROUND)/bin/pip install -q bpy==5.2.3
	$(GROUND)/bin/python -m pytest tests/blender

# torch is asked for by its exact version first, so that a CPU build is taken where the package index offers one
$(READY): pyproject.toml constraints.txt tools/install_system_libraries.sh
	sh tools/install_system_libraries.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade "pip>=24"
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0 numpy==1.26.4
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) $(GROUND) out build dist *.egg-info
