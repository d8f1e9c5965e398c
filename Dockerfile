# syntax=docker/dockerfile:1
FROM python:3.11-slim AS build
ARG EXTRAS=serve,postgres,text,demo
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PATH=/opt/onoma/bin:$PATH
RUN python -m venv /opt/onoma
WORKDIR /src
COPY constraints.txt ./
# Torch for processors alone: a tenth of the size of the one with CUDA.
RUN torch="$(sed -n 's/^torch==//p' constraints.txt)" \
    && pip install --extra-index-url https://download.pytorch.org/whl/cpu \
        -c constraints.txt "torch==${torch}+cpu"
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install -c constraints.txt ".[${EXTRAS}]"

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home onoma \
    && mkdir -p /srv/runs /srv/data /srv/store \
    && chown onoma /srv/store
COPY --from=build /opt/onoma /opt/onoma
ENV PATH=/opt/onoma/bin:$PATH PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 ONOMA_STORE=/srv/store/store.db
# Recipes name their data by a path; it is the same in here where both lie below /srv.
WORKDIR /srv
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/ready', timeout=4)"]
ENTRYPOINT ["onoma"]
CMD ["serve", "runs/flagship", "--host", "0.0.0.0"]
