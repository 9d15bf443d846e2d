#!/usr/bin/env bash
# Prepares a Debian 12 machine to build Espalier: system packages, LibTorch, and a release build.
# Safe to run again: what is there already is left alone.
#
#   scripts/setup.sh                 packages, LibTorch, build
#   scripts/setup.sh --no-build      packages and LibTorch only
#   scripts/setup.sh --gpu           also what LibTorch needs to compute on an NVIDIA GPU (2.5 GB)
#   ESPALIER_LIBTORCH=DIR scripts/setup.sh    use an existing LibTorch instead of downloading one
#   ESPALIER_CACHE=DIR               where downloads live (default ~/.cache/espalier), shared by all clones
set -euo pipefail
cd "$(dirname "$0")/.."

build=yes
gpu=no
for argument in "$@"; do
  case "$argument" in
    --no-build) build=no ;;
    --gpu) gpu=yes ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "setup.sh: unknown option $argument (try --help)" >&2; exit 2 ;;
  esac
done

packages=(
  g++ cmake ninja-build ccache pkg-config unzip git python3 python3-pip python3-venv
  clang clang-format clang-tidy lld binutils abigail-tools
  libboost-dev libboost-program-options-dev libboost-filesystem-dev
  libtomlplusplus-dev libyaml-cpp-dev libspdlog-dev libfmt-dev
  nlohmann-json3-dev libsimdjson-dev libonig-dev libutf8proc-dev libzstd-dev zlib1g-dev
  libgtest-dev libgmock-dev
  libgloo-dev
)

# fetch_wheels REQUIREMENTS FOLDER: downloads the wheels, checks their digests, and unpacks headers, libraries and CMake
# files; the Python part is not needed.
fetch_wheels() {
  local wheels wheel
  wheels=$(mktemp -d "$cache/wheels.XXXXXX")
  python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --python-version 3.11 --implementation cp --abi cp311 \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_25_x86_64 \
    --platform manylinux_2_18_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --platform manylinux2010_x86_64 --platform manylinux1_x86_64 \
    -d "$wheels" -r "$1" || { rm -rf "$wheels"; return 1; }
  for wheel in "$wheels"/*.whl; do
    # unzip's status 11 says that a pattern matched nothing in this wheel.
    unzip -q -o "$wheel" 'torch/include/*' 'torch/lib/*' 'torch/share/*' 'torch/version.py' 'nvidia/*' \
      -d "$2" 2>/dev/null || [ $? = 11 ]
  done
  rm -rf "$wheels"
}

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ]; then as_root=(); elif command -v sudo >/dev/null; then as_root=(sudo); else
    echo "setup.sh: these packages are missing and there is no root access to install them:" >&2
    echo "  apt-get install ${missing[*]}" >&2
    exit 1
  fi
  say "installing ${#missing[@]} system packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq "${missing[@]}" >/dev/null
fi

cache=${ESPALIER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/espalier}
if [ -n "${ESPALIER_LIBTORCH:-}" ]; then
  say "using LibTorch at $ESPALIER_LIBTORCH"
else
  libtorch=$cache/libtorch-2.15.0
  if [ ! -f "$libtorch/.complete" ]; then
    say "downloading LibTorch 2.15.0 (540 MB) to $cache, once"
    mkdir -p "$cache"
    staging=$(mktemp -d "$cache/libtorch.XXXXXX")
    trap 'rm -rf "$staging"' EXIT
    fetch_wheels scripts/libtorch-requirements.txt "$staging"
    rm -f "$staging/torch/lib/libtorch_python.so"
    touch "$staging/.complete"
    chmod 755 "$staging"
    rm -rf "$libtorch"
    mv "$staging" "$libtorch"
    trap - EXIT
  fi
  if [ "$gpu" = yes ] && [ ! -f "$libtorch/.gpu-complete" ]; then
    say "downloading the CUDA libraries that LibTorch needs (2.5 GB), once"
    fetch_wheels scripts/libtorch-gpu-requirements.txt "$libtorch"
    touch "$libtorch/.gpu-complete"
  fi
  say "LibTorch 2.15.0 is at $libtorch"
fi

if [ "$build" = yes ]; then
  say "building (the first build takes some minutes)"
  cmake --preset release >/dev/null
  cmake --build --preset release
  say "done: build/release/bin/espalier --help"
fi
