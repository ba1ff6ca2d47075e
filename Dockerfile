# docker build -t stairs . && docker run --rm -p 7860:7860 stairs
# For a GPU: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130, and run with --gpus all.
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN useradd --create-home --uid 1000 stairs
WORKDIR /home/stairs/app

# The lock. torch of it on its own and first: its index decides between CPU and CUDA.
COPY requirements.txt ./
RUN grep '^torch' requirements.txt > /tmp/torch.txt \
    && pip install --no-cache-dir --index-url "$TORCH_INDEX" -r /tmp/torch.txt \
    && pip install --no-cache-dir -r requirements.txt

COPY --chown=stairs:stairs . .
USER stairs

# Nothing is fetched at run time; -e HF_HUB_OFFLINE=0 lets it load pairs from the hub.
ENV HOST=0.0.0.0 PORT=7860 HF_HUB_OFFLINE=1 GRADIO_ANALYTICS_ENABLED=False PYTHONUNBUFFERED=1
EXPOSE 7860
CMD ["python", "app.py"]
