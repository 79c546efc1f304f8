# Coupon in a container: the web side by default, the worker with `python worker.py`, the CLI with `coupon …`.
# Checked for syntax only: there was no Docker engine where this was written.
FROM python:3.12-slim AS build
COPY constraints.txt /source/
RUN pip install --no-cache-dir --prefix=/installed --require-hashes --requirement /source/constraints.txt
COPY . /source
RUN pip install --no-cache-dir --prefix=/installed --no-deps /source

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home coupon
COPY --from=build /installed /usr/local
WORKDIR /app
COPY wsgi.py worker.py ./
COPY conf conf/
RUN install --directory --owner=coupon data
USER 10001
ENV HOST=0.0.0.0 PORT=8080 PYTHONUNBUFFERED=1
VOLUME /app/data
EXPOSE 8080
# A container of workers replaces it with: coupon worker-alive
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/livez', timeout=4)"]
CMD ["gunicorn", "-c", "conf/gunicorn.conf.py", "wsgi:app"]
