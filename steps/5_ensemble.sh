#!/usr/bin/env bash
# Step 5: blend, score table, report and submission of an experiment.
# From the environment: EXPERIMENT, SETTINGS, JOBS.
set -euo pipefail
cd "$(dirname "$0")/.."
EXPERIMENT=${EXPERIMENT:-experiments/baseline}
SETTINGS=${SETTINGS:-SETTINGS.json}
python ensemble.py "$EXPERIMENT" --settings "$SETTINGS" ${JOBS:+--jobs "$JOBS"}
