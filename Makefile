# `make` alone prints this list. Each target sets up what it needs: .venv, and Debian packages where apt can be used.

.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE  # tests start the program some hundred times: it is compiled once, not at each start
.PHONY: help run test test-avx2 test-fast test-pythons chaos faults soak fuzz fleet-sim check lock hashes sbom audit quality screenshots vendor few-shot clean

help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "make %-10s %s\n", $$1, $$2}'

run:  ## set everything up and listen
	@scripts/venv
	@scripts/debian-packages libportaudio2 || echo "without it no microphone can be heard" >&2
	@.venv/bin/streamer run --config configs/quickstart.yaml

TEST_PACKAGES := mosquitto mosquitto-clients openssl pulseaudio pulseaudio-utils libportaudio2 libasound2-plugins systemd faketime apparmor chromium

test:  ## all tests; one of them: make test PYTEST_ARGS="tests/config -k nearest"
	@scripts/venv dev
	@scripts/debian-packages $(TEST_PACKAGES)
	.venv/bin/pytest -n 3 --dist worksteal $(PYTEST_ARGS)

test-avx2: export ONEDNN_MAX_CPU_ISA = AVX2
test-avx2: export ATEN_CPU_CAPABILITY = avx2
test-avx2: test  ## as test, with this CPU seen as one that has AVX2 and no more, as most homes have

test-fast:  ## the tests that need no broker, no audio server and no training: some minutes
	@scripts/venv dev
	.venv/bin/pytest -m "not slow" -n 3 --dist worksteal $(PYTEST_ARGS)

test-pythons:  ## PYTHONS="python3.12 …", or each that is found: a light installation, its first event, light tests
	@$${PYTHON:-python3} -m tools.pythons $(PYTHONS)

CHAOS_ARGS ?= --faults 1000 --rate 280 --pause 0.6

chaos:  ## a thousand faults between microphone and subscriber, and what was lost: nothing (ten minutes)
	@scripts/venv dev
	@scripts/debian-packages mosquitto mosquitto-clients
	.venv/bin/python -m tests.chaos $(CHAOS_ARGS)

faults:  ## what goes wrong in months, one fault after the other, and a table of what it cost (half an hour)
	@scripts/venv dev
	@scripts/debian-packages mosquitto mosquitto-clients pulseaudio pulseaudio-utils libportaudio2 libasound2-plugins faketime strace
	FAULTS_CYCLES=1000 .venv/bin/pytest tests/faults tests/faults/traced.py $(PYTEST_ARGS)

FUZZ_EXAMPLES ?= 250000

fuzz:  ## FUZZ_EXAMPLES=250000: so many odd inputs each for configuration, commands, recordings and models (an hour)
	@scripts/venv dev
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) .venv/bin/pytest -s tests/fuzz $(PYTEST_ARGS)

MINUTES ?= 30
PAGE ?= http://127.0.0.1:8927/

soak:  ## MINUTES=30: twenty sources, and the slope of memory, descriptors and threads
	@scripts/venv dev
	@scripts/debian-packages mosquitto mosquitto-clients
	SOAK_MINUTES=$(MINUTES) .venv/bin/pytest tests/faults/test_soak.py $(PYTEST_ARGS)

fleet-sim:  ## many microphones simulated: a small case beside a real one, then sizes that are not here (two minutes)
	@scripts/venv
	.venv/bin/python -m tools.fleet_sim

check:  ## format, lint, types
	@scripts/venv dev
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy

lock:  ## requirements.txt anew, after a change of dependencies: versions of constraints.txt, SHA-256 of their files
	@scripts/lock

hashes:  ## whether what a light installation would bring has the SHA-256 of requirements.txt; fetches it all
	@scripts/venv dev
	@.venv/bin/pip install --quiet --dry-run --ignore-installed --no-deps --require-hashes -r requirements.txt
	@echo "each file has its SHA-256"

sbom:  ## what is installed, as CycloneDX: build/sbom.json
	@scripts/venv
	@scripts/tool cyclonedx-bom==7.5.0
	@build/tools/cyclonedx-bom/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml -o build/sbom.json .venv/bin/python
	@echo build/sbom.json

audit:  ## known vulnerabilities of what is installed; asks the package index
	@scripts/venv
	@scripts/tool pip-audit==2.10.1
	@.venv/bin/python -m tools.audit build/tools/pip-audit/bin/pip-audit

quality:  ## SOUNDSCAPES=… DATA=…: how well events are found, beside a peer
	@test -n "$(SOUNDSCAPES)" -a -n "$(DATA)" || { echo "make quality: say where the soundscape tools and the clips are: make quality SOUNDSCAPES=… DATA=…" >&2; exit 64; }
	@scripts/venv dev
	@.venv/bin/python -m tools.quality --soundscapes "$(SOUNDSCAPES)" --data "$(DATA)" $(QUALITY_ARGS)

bench-web:  ## what the page costs: processor, memory, loop, paints, answers (eight minutes, on a quiet machine)
	@scripts/venv dev
	@.venv/bin/python -m tools.bench_web $(BENCH_ARGS)

screenshots:  ## PAGE=http://127.0.0.1:8927/: pictures of a page that runs, into docs/screenshots
	@scripts/venv dev
	@scripts/debian-packages chromium
	.venv/bin/python -m tools.screenshots $(PAGE) docs/screenshots

vendor:  ## make the page's library anew, from npm
	@scripts/vendor

few-shot:  ## DATA=…: how well sounds are heard that were taught from five clips (some minutes)
	@test -n "$(DATA)" || { echo "make few-shot: say where the clips are: make few-shot DATA=…" >&2; exit 64; }
	@scripts/venv
	@.venv/bin/python -m tools.few_shot --data "$(DATA)" $(FEW_SHOT_ARGS)

clean:  ## remove .venv and everything that was built
	rm -rf .venv build out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
