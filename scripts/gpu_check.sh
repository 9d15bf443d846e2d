#!/usr/bin/env bash
# The GPU suite: kernels against their reference with their bandwidth; parity, greedy answers, golden curves (also in
# bfloat16 and with the state on the host) and a killed run on the GPU; and, where Python has torch and transformers,
# training side by side with them. Under 8 minutes after the build.
#
#   scripts/gpu_check.sh             takes build/release, built with nvcc and with scripts/setup.sh --gpu
#   ESPALIER_BUILD=DIR               another build folder
set -uo pipefail
cd "$(dirname "$0")/.."

build=${ESPALIER_BUILD:-build/release}
failed=0
step() {
  printf '\n==> %s\n' "$1"
  shift
  "$@" || failed=1
}

step "kernels" "$build/bin/cuda_kernels_bench"
step "kernels through the table of ops" "$build/bin/espalier" kernels check cuda_kernels
for what in parity generation curves ways resume; do
  step "$what" python3 tests/gpu/gpu_test.py "$what" --program "$build/bin/espalier" --fixtures tests/fixtures
done
if python3 -c 'import torch, transformers' 2>/dev/null; then
  step "full fine-tuning" python3 bench/gpu_training.py --program "$build/bin/espalier"
else
  printf '\nside-by-side training is left out: this Python has no torch and transformers\n'
fi
[ $failed = 0 ] && echo "GPU suite: passed" || echo "GPU suite: FAILED"
exit $failed
