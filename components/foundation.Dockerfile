# The foundations of our images: the target "plain", or "torch". `make images` builds the one that an image needs before
# the image. They have a file of their own, because Docker's classic builder builds all stages above its target.
ARG BASE_IMAGE=python:3.11-slim

# hadolint ignore=DL3006
FROM ${BASE_IMAGE} AS plain
# A virtual environment, because Debian does not let pip install into the system's Python.
RUN python3 -m venv /opt/venv
# The user may have no entry in /etc/passwd and no home: only the temporary folder has to be writable.
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

# The foundation of train, evaluate and the predictor, which share one layer with torch.
FROM plain AS torch
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Only torch comes from its own index; its dependencies come from where all other packages do. With two indexes at once,
# pip might take a package from the wrong one.
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} --no-deps \
      --constraint requirements.lock torch \
    && pip install --no-cache-dir --constraint requirements.lock torch
