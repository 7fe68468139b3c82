#!/usr/bin/env bash
# Step 2: every stage-1 configuration of an experiment, every fold that is not complete (or fold FOLD alone).
# From the environment: EXPERIMENT, SETTINGS, FOLD, JOBS.
set -euo pipefail
cd "$(dirname "$0")/.."
EXPERIMENT=${EXPERIMENT:-experiments/baseline}
SETTINGS=${SETTINGS:-SETTINGS.json}
for config in "$EXPERIMENT"/stage1/*.json; do
    [[ $config == */small_* ]] && continue # the small form of a system, which `make systems` trains
    python train_stage1.py "$config" --settings "$SETTINGS" ${FOLD:+--fold "$FOLD"} ${JOBS:+--jobs "$JOBS"}
done
