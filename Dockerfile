# One image for every service of docker-compose.yaml: Airflow, its workers, MLflow and the migrations.
# It installs the same hashed lock as a local checkout.
FROM python:3.11-slim-bookworm

ARG UV_VERSION=0.13.8

RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 curl \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 50000 --create-home --home-dir /home/nightshift nightshift

WORKDIR /opt/nightshift

COPY requirements.txt ./
RUN pip install --no-cache-dir "uv==${UV_VERSION}" \
 && uv pip install --system --no-cache --require-hashes --requirement requirements.txt

COPY config ./config
COPY scripts/build_runtimes.sh ./scripts/
RUN UV_NO_CACHE=1 scripts/build_runtimes.sh uv python .runtimes

COPY include ./include
COPY dags ./dags
COPY plugins ./plugins
COPY feature_repo ./feature_repo

ENV AIRFLOW_HOME=/home/nightshift/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/nightshift/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/nightshift/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    PYTHONPATH=/opt/nightshift/include \
    OMP_WAIT_POLICY=PASSIVE \
    PYTHONUNBUFFERED=1

RUN printf '#!/bin/sh\nexec python -m nightshift.cli "$@"\n' > /usr/local/bin/nightshift && chmod 755 /usr/local/bin/nightshift

USER nightshift
# The logs too: a volume is mounted there, and without the folder it would be root's.
RUN mkdir -p "${AIRFLOW_HOME}/logs"

# Last, because each commit has another.
ARG CODE_VERSION=unknown
ENV NIGHTSHIFT_CODE_VERSION=${CODE_VERSION}

CMD ["airflow", "version"]
