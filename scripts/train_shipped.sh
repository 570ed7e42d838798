#!/usr/bin/env bash
# Trains the shipped models again: first the IRIM, then the CIRIM from copies of it (--init), about an hour each on a CPU
# core. The model cards tell what was done for the models that are shipped.
# usage: scripts/train_shipped.sh CONFIG IMAGES [options of mrirecon train]
# CONFIG is shipped_irim, shipped_cirim or that of a network to compare with. IMAGES is a folder with the public images that
# the model cards cite: images/ms, images/other and labels. The split is by subject: MS patients 01, 03, 04, four label
# maps, two heads, a neck and hearts to train; patients 09 and 12, another head and another label map to validate.
set -euo pipefail
usage="usage: scripts/train_shipped.sh CONFIG IMAGES [options of mrirecon train]"
config=${1:?$usage} data=${2:?$usage}
shift 2
list() { printf '"%s",' "$@" | sed 's/,$//; s/^/[/; s/$/]/'; }
ms="$data/images/ms" other="$data/images/other"
mrirecon train --config "$config" \
  --data.images "$(list "$ms"/patient0[134]_*.nii.gz "$other"/{brain_t1_axial_studyforrest,brain_t1_chris,spine_t2star_axial}.nii.gz "$other"/cardiac_100x256x256.npz)" \
  --data.labels "$(list "$data"/labels/head_labels_{01,03,05,11}.nii.gz)" \
  --data.val_images "$(list "$ms"/patient09_*.nii.gz "$ms"/patient12_*.nii.gz "$other"/brain_flair_synthsr.nii.gz)" \
  --data.val_labels "$(list "$data"/labels/head_labels_20.nii.gz)" "$@"
