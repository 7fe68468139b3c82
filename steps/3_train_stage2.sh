#!/usr/bin/env bash
# Step 3: every stage-2 configuration of an experiment, every fold that is not complete (or fold FOLD alone).
# From the environment: EXPERIMENT, SETTINGS, FOLD, JOBS.
set -euo pipefail
cd "$(dirname "$0")/.."
EXPERIMENT=${EXPERIMENT:-experiments/baseline}
SETTINGS=${SETTINGS:-SETTINGS.json}
for config in "$EXPERIMENT"/stage2/*.json; do
    [[ $config == */small_* ]] && continue # the small form of a system, which `make systems` trains
    python train_stage2.py "$config" --settings "$SETTINGS" ${FOLD:+--fold "$FOLD"} ${JOBS:+--jobs "$JOBS"}
done
