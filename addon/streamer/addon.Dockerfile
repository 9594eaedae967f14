# The last stage of the add-on's Dockerfile; scripts/addon-repository puts that of the project above it.

FROM light AS addon
# The supervisor's file of options is root's alone; apparmor.txt says what root may do here.
USER root
ENV STATE_DIRECTORY=/data/state \
    CACHE_DIRECTORY=/data/cache \
    STREAMER_MODELS=/data/models
CMD ["addon"]
