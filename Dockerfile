# syntax=docker/dockerfile:1
# The dependencies come as wheels, pinned by hash; the build stage puts them into a venv and compiles
# the kernels of engine/native.
FROM python:3.11-slim-bookworm AS build
WORKDIR /app
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /venv
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY clients/python clients/python
COPY engine engine
COPY jobs jobs
COPY migrations migrations
COPY server server
COPY sources sources
COPY storage storage
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation -e clients/python -e .

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/penchant penchant
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PENCHANT_HOST=0.0.0.0 PENCHANT_DATA_DIR=/var/lib/penchant/data
USER penchant
EXPOSE 50051 9464
VOLUME /var/lib/penchant
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["penchant", "health"]
ENTRYPOINT ["penchant"]
CMD ["serve"]
