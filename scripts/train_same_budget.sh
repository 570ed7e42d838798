#!/usr/bin/env bash
# Trains networks of other kinds as the shipped IRIM was trained, on the same examples and for about the same time each, ten
# minutes on a CPU core: what a step costs decides how many steps there are.
# usage: scripts/train_same_budget.sh IMAGES OUTPUT; for IMAGES see scripts/train_shipped.sh
set -euo pipefail
usage="usage: scripts/train_same_budget.sh IMAGES OUTPUT"
images=${1:?$usage} output=${2:?$usage}
train() { # name, steps, options: from random weights; an example is seen once, validation comes after each quarter
  local name=$1 steps=$2
  shift 2
  "$(dirname "$0")"/train_shipped.sh shipped_irim "$images" --data.examples "$((steps / 4))" --trainer.max_epochs 4 \
    --data.val_examples 12 --output "$output/$name" "$@"
}
train irim 1000
train cirim 260 --model.model CIRIM --model.model.cascades 5
train rim_gru 600 --model.model RIM --model.model.unit gru
train unet 1000 --model.model UNet --model.model.channels 64 --model.model.pools 2 --model.model.data_consistency soft
train e2evn_small 640 --model.model E2EVN --model.model.cascades 6 --model.model.channels 8 --model.model.pools 3 \
  --model.model.data_consistency soft
train e2evn 172 --model.model E2EVN --model.model.cascades 12 --model.model.channels 18 --model.model.pools 4 \
  --model.model.data_consistency soft
