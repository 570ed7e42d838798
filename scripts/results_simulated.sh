#!/usr/bin/env bash
# Makes the table of docs/results/simulated_validation.md again: simulates five scans from the images of the validation
# subjects and evaluates the methods on them. About ten minutes on two cores.
# usage: scripts/results_simulated.sh IMAGES OUT      (IMAGES as for scripts/train_small.sh)
set -euo pipefail
images=${1:?usage: scripts/results_simulated.sh IMAGES OUT}/images
out=${2:?usage: scripts/results_simulated.sh IMAGES OUT}
seed=0
for name in ms/patient09_study2_FLAIR ms/patient12_study1_T1W ms/patient12_study1_T2W ms/patient12_study1_FLAIR \
    other/brain_flair_synthsr; do
    mrirecon simulate "$out/scans/$(basename "$name").h5" --from "$images/$name.nii.gz" --coils 8 --snr 30 --seed $((seed++))
done
mrirecon evaluate "$out/scans" --methods zero-filled,cg-sense,cs,cirim_small \
    --masks equispaced_fraction,gaussian2d,poisson2d --accelerations 4,8 --acs 18 --seed 0 --max-slices 3 -o "$out"
