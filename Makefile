# make run    set everything up and listen
# make test   set up what the tests need and run them all
# make check  format, lint, types

.PHONY: run test check clean

run:
	@scripts/venv
	@scripts/debian-packages libportaudio2 || echo "without it no microphone can be heard" >&2
	@.venv/bin/streamer run --config configs/quickstart.yaml

test:
	@scripts/venv dev
	@scripts/debian-packages mosquitto mosquitto-clients openssl pulseaudio pulseaudio-utils libportaudio2 libasound2-plugins
	.venv/bin/pytest $(PYTEST_ARGS)

check:
	@scripts/venv dev
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy

clean:
	rm -rf .venv build out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
