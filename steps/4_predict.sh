#!/usr/bin/env bash
# Step 4: test predictions of every complete run folder of an experiment.
# From the environment: EXPERIMENT, SETTINGS, JOBS.
set -euo pipefail
cd "$(dirname "$0")/.."
EXPERIMENT=${EXPERIMENT:-experiments/baseline}
SETTINGS=${SETTINGS:-SETTINGS.json}
python predict.py "$EXPERIMENT" --settings "$SETTINGS" ${JOBS:+--jobs "$JOBS"}
