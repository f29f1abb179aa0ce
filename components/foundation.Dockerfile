# What our images stand on: the target "plain", or "torch". `make images` builds the one that an image needs before the
# image. A file of its own, because the builder that is no BuildKit builds whatever stands above its target.
ARG BASE_IMAGE=python:3.11-slim

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS plain
# In an environment of its own, because Debian keeps its system's Python for itself.
RUN python3 -m venv /opt/venv
# Whoever the user is, it may have no entry in /etc/passwd and no home but the temporary folder, the one
# place that has to be writable.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/miniml \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=miniml \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/matplotlib \
    HF_HOME=/tmp/huggingface
WORKDIR /opt/miniml
COPY requirements.lock /opt/miniml/

# What train, evaluate and the predictor stand on, so that there is one layer of torch on a machine.
FROM plain AS torch
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# torch alone comes from its index, and what it asks for from where all else does: of two indexes at once, either may
# be the one that a package of the other's name comes from.
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} --no-deps \
      --constraint requirements.lock torch \
    && pip install --no-cache-dir --constraint requirements.lock torch
