#!/usr/bin/env bash
# Step 1: RAW_DATA_DIR -> CLEAN_DATA_DIR: slices.parquet, volumes/, folds.csv, quarantine.csv.
# From the environment: SETTINGS, JOBS, PREPARE_FLAGS (such as "--size 384 --crop").
set -euo pipefail
cd "$(dirname "$0")/.."
SETTINGS=${SETTINGS:-SETTINGS.json}
python prepare_data.py --settings "$SETTINGS" ${JOBS:+--jobs "$JOBS"} ${PREPARE_FLAGS:-}
