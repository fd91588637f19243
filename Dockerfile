# The gateway for PostgreSQL and a Redis server of your own: no embedded server inside. deploy/README.md says how to run it.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements/build.txt requirements/production.txt requirements/
RUN python -m venv /build && /build/bin/pip install --require-hashes -r requirements/build.txt \
 && python -m venv /app && /app/bin/pip install --require-hashes -r requirements/production.txt
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY channels channels
COPY templates templates
COPY examples examples
RUN /build/bin/pip wheel --no-deps --no-build-isolation -w /dist . \
 && /app/bin/pip install --no-deps --no-index /dist/*.whl \
 && /app/bin/pip check \
 && /app/bin/python -m pip uninstall --yes pip

FROM python:${PYTHON}-slim
RUN groupadd --gid 10001 gateway \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gateway \
 && install --directory --owner=10001 --group=10001 --mode=0700 /data /keys
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONFAULTHANDLER=1 \
    GATEWAY_DATA=/data \
    GATEWAY_LISTEN=0.0.0.0:8080
USER 10001:10001
VOLUME ["/data", "/keys"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['GATEWAY_LISTEN'].rpartition(':')[2]), timeout=3); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["gateway"]
CMD ["api"]
