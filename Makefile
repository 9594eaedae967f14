# make run    set everything up and listen
# make test   set up what the tests need and run them all
# make chaos  a thousand faults between microphone and subscriber, and what was lost: nothing (ten minutes)
# make faults what goes wrong in months, one after the other, and a table of what it cost (6 minutes)
# make soak MINUTES=30  twenty sources, and the slope of memory, descriptors and threads
# make check  format, lint, types
# make quality SOUNDSCAPES=… DATA=…  how well events are found, beside a peer

.PHONY: run test chaos faults soak check quality clean

run:
	@scripts/venv
	@scripts/debian-packages libportaudio2 || echo "without it no microphone can be heard" >&2
	@.venv/bin/streamer run --config configs/quickstart.yaml

test:
	@scripts/venv dev
	@scripts/debian-packages mosquitto mosquitto-clients openssl pulseaudio pulseaudio-utils libportaudio2 libasound2-plugins systemd faketime
	.venv/bin/pytest $(PYTEST_ARGS)

CHAOS_ARGS ?= --faults 1000 --rate 280 --pause 0.6

chaos:
	@scripts/venv dev
	@scripts/debian-packages mosquitto mosquitto-clients
	.venv/bin/python -m tests.chaos $(CHAOS_ARGS)

faults:
	@scripts/venv dev
	@scripts/debian-packages mosquitto mosquitto-clients pulseaudio pulseaudio-utils libportaudio2 libasound2-plugins faketime
	FAULTS_CYCLES=1000 .venv/bin/pytest tests/faults $(PYTEST_ARGS)

MINUTES ?= 30

soak:
	@scripts/venv dev
	@scripts/debian-packages mosquitto mosquitto-clients
	SOAK_MINUTES=$(MINUTES) .venv/bin/pytest tests/faults/test_soak.py $(PYTEST_ARGS)

check:
	@scripts/venv dev
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy

quality:
	@test -n "$(SOUNDSCAPES)" -a -n "$(DATA)" || { echo "make quality: say where the soundscape tools and the clips are: make quality SOUNDSCAPES=… DATA=…" >&2; exit 64; }
	@scripts/venv
	@.venv/bin/python -m streamer.evaluation.quality --soundscapes "$(SOUNDSCAPES)" --data "$(DATA)" $(QUALITY_ARGS)

clean:
	rm -rf .venv build out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
