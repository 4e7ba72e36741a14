# One image for api, worker, beat and migrate; they differ by the command only.
# A mirror of the base image can be named: --build-arg PYTHON_IMAGE=registry.example/python:3.13-slim
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore UV_LINK_MODE=copy
WORKDIR /build

# uv and hatchling live in a folder of their own and stay behind in this stage.
COPY scripts/bootstrap.lock scripts/
RUN python -m venv /tools \
    && /tools/bin/pip install --no-cache-dir --quiet --require-hashes --no-deps -r scripts/bootstrap.lock \
    && python -m venv --without-pip /opt/taskyard

# What pyproject.toml names, as requirements.lock pins it, hashes checked; no development tools.
COPY requirements.lock pyproject.toml ./
RUN /tools/bin/uv pip install --no-cache --quiet --compile-bytecode \
        --python /opt/taskyard/bin/python --require-hashes -r pyproject.toml -c requirements.lock

COPY README.md LICENSE ./
COPY migrations migrations
COPY app app
RUN /tools/bin/python -m hatchling build -t wheel -d /build/dist \
    && /tools/bin/uv pip install --no-cache --quiet --compile-bytecode --no-deps \
        --python /opt/taskyard/bin/python /build/dist/*.whl

FROM ${PYTHON_IMAGE}
ENV PATH=/opt/taskyard/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TASKYARD_DATA_DIR=/var/lib/taskyard

RUN groupadd --gid 10001 taskyard \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin taskyard \
    && install -d -o 10001 -g 10001 -m 0750 /var/lib/taskyard /var/lib/taskyard/files

COPY --from=build /opt/taskyard /opt/taskyard
WORKDIR /srv/taskyard
COPY settings.yaml ./

USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# The API's own probe; docker-compose.yml replaces it for the worker and beat.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=6 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["taskyard", "api"]
