#!/usr/bin/env bash
# Everything that a change has to pass: set-up, build, lint, sanitizers, tests. Ends with ctest's summary.
#
#   scripts/test.sh                  what CI runs; 60 minutes on two cores, caches empty
#   scripts/test.sh --full           also clang-tidy over the whole tree, a build with clang, fuzzing, all faults of the
#                                    fault tests, and the comparisons with Python's transformers and llama.cpp
#   scripts/test.sh --only build,tests    some phases: setup python build lint sanitizers clang fuzz tests
#   ESPALIER_CACHE=DIR               where downloads live (default ~/.cache/espalier), shared by all clones
set -euo pipefail
cd "$(dirname "$0")/.."

full=no
only=
while [ $# -gt 0 ]; do
  case "$1" in
    --full) full=yes ;;
    --only) only=${2:?--only needs a list of phases}; shift ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "test.sh: unknown option $1 (try --help)" >&2; exit 2 ;;
  esac
  shift
done

cache=${ESPALIER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/espalier}
jobs=$(nproc)
durations=()

# phase NAME COMMAND...: runs the command, times it, and stops everything when it fails.
phase() {
  local name=$1 start=$SECONDS
  shift
  if [ -n "$only" ] && [[ ",$only," != *",$name,"* ]]; then return 0; fi
  printf '\n==> %s\n' "$name"
  # Not `if "$@"`: inside a condition the shell would not stop at a failing line of the function.
  set +e
  (set -e; "$@")
  local code=$?
  set -e
  if [ $code != 0 ]; then
    printf '\ntest.sh: FAILED in phase %s after %d s (exit code %d)\n' "$name" $((SECONDS - start)) $code >&2
    exit 1
  fi
  durations+=("$name $((SECONDS - start)) s")
  printf '==> %s: %d s\n' "$name" $((SECONDS - start))
}

run_setup() { bash scripts/setup.sh --no-build; }

# A virtual environment for each set of requirements, made once and shared by all clones.
prepare_python() {
  local list=(-r scripts/test-requirements.txt)
  if [ "$full" = yes ]; then list+=(-r scripts/test-requirements-full.txt); fi
  local stamp
  stamp=$(cat scripts/test-requirements.txt; if [ "$full" = yes ]; then cat scripts/test-requirements-full.txt; fi)
  if [ -f "$venv/.complete" ] && [ "$(cat "$venv/.complete")" = "$stamp" ]; then
    echo "Python packages are in $venv"
    return
  fi
  rm -rf "$venv"
  mkdir -p "$cache"
  python3 -m venv "$venv"
  # The list is complete but for what tokenizers asks for to download files, which no test does.
  local dependencies=(--no-deps)
  if [ "$full" = yes ]; then dependencies=(); fi
  # llama.cpp without its programs for images.
  CMAKE_ARGS="-DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF" "$venv/bin/pip" install -q --disable-pip-version-check "${dependencies[@]}" "${list[@]}"
  printf '%s' "$stamp" >"$venv/.complete"
}

run_build() {
  cmake --preset release -DESPALIER_TEST_PYTHON="$venv/bin/python" -DESPALIER_FULL_TESTS="$full"
  cmake --build --preset release -j "$jobs"
}

run_lint() {
  git ls-files '*.cpp' '*.h' ':!sdk/template' | xargs clang-format --dry-run -Werror
  echo "clang-format: $(git ls-files '*.cpp' '*.h' | wc -l) files are formatted"
  ctest --test-dir build/release -R '^lint\.' --output-on-failure
  local scope=(--changed)
  if [ "$full" = yes ]; then scope=(--all); fi
  python3 scripts/run_tidy.py "${scope[@]}" --jobs "$jobs" build/release
}

# The parts without LibTorch, which is where files of strangers are parsed. Of them, ThreadSanitizer is for those that
# are called from several threads at once.
run_sanitizers() {
  cmake --preset asan
  cmake --build --preset asan -j "$jobs"
  ctest --test-dir build/asan -E '^lint\.|_fuzz' -j "$jobs" --output-on-failure
  local threaded=(safetensors_test tokenizer_test chat_template_test plugin_test)
  cmake --preset tsan
  cmake --build --preset tsan -j "$jobs" --target "${threaded[@]}"
  local program
  for program in "${threaded[@]}"; do "build/tsan/bin/$program" --gtest_brief=1; done
}

run_clang() {
  cmake --preset clang
  cmake --build --preset clang -j "$jobs"
}

# A minute for each parser.
run_fuzz() { bash scripts/fuzz.sh 60; }

# Last, so that ctest's summary closes the output.
run_tests() {
  if [ ${#durations[@]} -gt 0 ]; then printf '%s\n' "so far:" "${durations[@]/#/  }"; fi
  ctest --test-dir build/release -j "$jobs" --output-on-failure
}

if [ "$full" = yes ]; then venv=$cache/python-full; else venv=$cache/python; fi
phase setup run_setup
phase python prepare_python
phase build run_build
phase lint run_lint
phase sanitizers run_sanitizers
if [ "$full" = yes ]; then
  phase clang run_clang
  phase fuzz run_fuzz
fi
if [ -n "$only" ] && [[ ",$only," != *",tests,"* ]]; then exit 0; fi
printf '\n==> tests\n'
run_tests || { printf '\ntest.sh: FAILED in phase tests\n' >&2; exit 1; }
