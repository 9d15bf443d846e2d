#!/usr/bin/env bash
# Fuzzes every parser of files that come from elsewhere: libFuzzer with AddressSanitizer and UBSan, beginning with the
# fixtures. Stops with an error at the first finding, whose input stays in build/fuzz/findings.
#
#   scripts/fuzz.sh [SECONDS [TARGET ...]]     seconds a target (60), one at a time; all targets
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
  for source in tests/fuzz/*_fuzz.cpp; do
    name=$(basename "$source")
    targets+=("${name%_fuzz.cpp}")
  done
fi

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target "${targets[@]/%/_fuzz}"
mkdir -p build/fuzz/findings build/fuzz/corpus
python3 tests/fuzz/seeds.py tests/fixtures build/fuzz/seeds

failed=()
for target in "${targets[@]}"; do
  mkdir -p "build/fuzz/corpus/$target"
  log=build/fuzz/$target.log
  # Exceptions in flight are no leaks, and what a parser takes is bounded by its input.
  if ! ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=0 "build/fuzz/bin/${target}_fuzz" \
    -max_total_time="$seconds" -timeout=30 -rss_limit_mb=3000 -max_len=262144 -print_final_stats=1 -verbosity=1 \
    -artifact_prefix="build/fuzz/findings/${target}_" "build/fuzz/corpus/$target" "build/fuzz/seeds/$target" >"$log" 2>&1; then
    failed+=("$target")
    grep -E '^SUMMARY|ERROR|Test unit written' "$log" || tail -5 "$log"
  fi
  printf '%-14s %s executions\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "fuzz.sh: findings in ${failed[*]}; run build/fuzz/bin/TARGET_fuzz FILE to see one" >&2
  exit 1
fi
