# The daemon in a container, for x86-64 and aarch64: `light` computes with ONNX Runtime and has no torch, `cuda` has both.
#   docker build --tag streamer .                       docker build --target cuda --tag streamer:cuda .
# Where there is no container engine, scripts/container-proof carries out these very steps (docs/container.md).

FROM debian:bookworm-slim AS source
RUN apt-get update \
 && apt-get install --yes --no-install-recommends binutils ca-certificates python3-venv \
 && rm -rf /var/lib/apt/lists/*
# Of this package only the bridge from ALSA to PulseAudio is taken: installed, it would bring 150 MB of FFmpeg.
RUN apt-get update \
 && cd /tmp \
 && apt-get download libasound2-plugins \
 && dpkg-deb --extract libasound2-plugins_*.deb plugins \
 && mkdir -p /bridge/usr/lib \
 && cd plugins/usr/lib \
 && cp --parents */alsa-lib/libasound_module_*_pulse.so /bridge/usr/lib \
 && rm -rf /tmp/* /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml constraints.txt requirements.txt README.md LICENSE ./
COPY systemd systemd
COPY configs configs
COPY streamer streamer
RUN python3 -m venv /opt/streamer

FROM source AS build-cuda
RUN /opt/streamer/bin/pip install --no-cache-dir --constraint constraints.txt .[torch] \
 && /opt/streamer/bin/pip uninstall --yes pip setuptools

FROM source AS build
# Each file by its SHA-256; requirements.txt has the setuptools that builds this package, too.
RUN /opt/streamer/bin/pip install --no-cache-dir --no-compile --require-hashes --requirement requirements.txt \
 && /opt/streamer/bin/pip install --no-cache-dir --no-compile --no-deps --no-build-isolation . \
 && /opt/streamer/bin/pip uninstall --yes pip setuptools hf-xet
# What a daemon never loads, a third of it all: tests, sources and symbols of compiled modules, numpy's builders, models for
# ONNX Runtime and a second build of it, the syntax of programming languages.
WORKDIR /opt/streamer/lib/python3.11/site-packages
RUN find . -type d \( -name __pycache__ -o -name tests -o -name sboms \
        -o -path ./numpy/distutils -o -path ./numpy/f2py \) -prune -exec rm -r {} + \
 && find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.[ch]' -o -name '*.cc' -o -name '*.hpp' \) -delete \
 && rm -rf onnxruntime/transformers onnxruntime/datasets onnxruntime/capi/libonnxruntime.so.* \
 && find pygments/lexers -name '[!_]*.py' -delete \
 && find av yaml -name '*.so' -exec strip --strip-unneeded {} +

FROM debian:bookworm-slim AS base
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates libportaudio2 libpulse0 python3 tzdata \
 && find /usr/lib/python3* -name __pycache__ -prune -exec rm -r {} + \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/apt /var/log/dpkg.log
COPY --from=build /bridge /
COPY container/asound.conf /etc/asound.conf
COPY container/pulse-is-default.conf /etc/alsa/pulse-is-default.conf
# Of the first user of a desktop, whose sound server lets only its own user in.
ARG UID=1000
RUN useradd --uid $UID --user-group --groups audio --home-dir /var/lib/streamer --create-home streamer
ENV PATH=/opt/streamer/bin:/usr/local/bin:/usr/bin:/bin \
    STATE_DIRECTORY=/var/lib/streamer \
    CACHE_DIRECTORY=/var/lib/streamer/cache \
    STREAMER_MODELS=/var/lib/streamer/models
VOLUME /var/lib/streamer
WORKDIR /etc/streamer
USER streamer
ENTRYPOINT ["streamer"]
CMD ["run", "--config", "/etc/streamer/streamer.yaml"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m \
    CMD ["python3", "-m", "streamer.ops.healthcheck"]

FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build-cuda /opt/streamer /opt/streamer

FROM base AS light
COPY --from=build /opt/streamer /opt/streamer
# Python keeps, compiled, what it loads here, which it could not as another user. What cannot be loaded ends the build.
USER root
RUN python3 -c "import sounddevice, streamer.cli, streamer.run.assemble, streamer.inference.engines.onnx, streamer.mqtt.publisher, streamer.ops.healthcheck"
USER streamer
