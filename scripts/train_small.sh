#!/usr/bin/env bash
# Trains the shipped model `cirim_small` again: a bit over an hour on one quiet CPU core.
# usage: scripts/train_small.sh IMAGES [options of mrirecon train]
# IMAGES is a folder with the public images that the model card cites: images/ms, images/other and labels. The split is by
# subject: MS patients 01, 03, 04 and four label maps to train, patients 09 and 12, another head and another label map to
# validate.
set -euo pipefail
data=${1:?usage: scripts/train_small.sh IMAGES [options of mrirecon train]}
shift
list() { printf '"%s",' "$@" | sed 's/,$//; s/^/[/; s/$/]/'; }
ms="$data/images/ms" other="$data/images/other"
mrirecon train --config cirim_small \
  --data.images "$(list "$ms"/patient0[134]_*.nii.gz "$other"/brain_t1_axial_studyforrest.nii.gz "$other"/brain_t1_chris.nii.gz "$other"/spine_t2star_axial.nii.gz)" \
  --data.labels "$(list "$data"/labels/head_labels_{01,03,05,11}.nii.gz)" \
  --data.val_images "$(list "$ms"/patient09_*.nii.gz "$ms"/patient12_*.nii.gz "$other"/brain_flair_synthsr.nii.gz)" \
  --data.val_labels "$(list "$data"/labels/head_labels_20.nii.gz)" "$@"
