#!/usr/bin/env python3
"""Checks which part of the tree includes which, by the layers of docs/architecture.md."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)

# Folder -> prefixes that its quoted includes may have. The longest matching folder counts.
LAYERS = {
    "sdk": ["espalier/"],
    "core/text": ["espalier/base/", "espalier/sdk/", "text/"],
    "core/plugin": ["espalier/base/", "espalier/sdk/", "plugin/"],
    "core/config": ["espalier/base/", "espalier/sdk/", "plugin/", "config/"],
    "core/formats": ["espalier/base/", "espalier/sdk/", "formats/"],
    "core/launch": ["espalier/base/", "launch/"],
    "core/report": ["espalier/base/", "config/", "report/"],
    "core/app": ["espalier/base/", "espalier/sdk/", "plugin/", "config/", "formats/", "launch/", "report/", "text/", "app/"],
    "core/engine": ["espalier/", "plugin/", "config/", "launch/", "text/", "engine/"],
    "plugins": ["espalier/"],
    "tools": ["espalier/base/", "tools/"],
    "examples": ["espalier/", "plugin/", "config/", "text/", "engine/"],
}
LIBTORCH = re.compile(r"^(ATen|c10|torch|caffe2)/")
# Third-party types never show in a public header: a plugin would have to be built with the same version.
PRIVATE_LIBRARIES = re.compile(r"^(fmt|spdlog|toml\+\+|boost|nlohmann|yaml-cpp)/|^(simdjson|oniguruma|utf8proc|zlib|zstd)\.h$")
BOOST_DLL_OWNER = "core/plugin/library.cpp"


def includes_of(path):
    return [(kind == '"', name) for kind, name in INCLUDE.findall(path.read_text())]


def sdk_header(name):
    """The file behind "espalier/...": base, nn, ops and io lie beside include/."""
    folder, _, rest = name.removeprefix("espalier/").partition("/")
    return ROOT / ("sdk/include/espalier/sdk" if folder == "sdk" else f"sdk/{folder}") / rest


def needs_libtorch(name, seen=None):
    seen = set() if seen is None else seen
    path = sdk_header(name)
    if name in seen or not path.exists():  # generated headers need none
        return False
    seen.add(name)
    return any(LIBTORCH.match(other) or (other.startswith("espalier/") and needs_libtorch(other, seen))
               for _, other in includes_of(path))


def problems_of(path):
    relative = path.relative_to(ROOT).as_posix()
    layer = max((folder for folder in LAYERS if relative.startswith(folder + "/")), key=len, default=None)
    if layer is None:
        yield f"{relative}: belongs to no layer; add its folder to docs/architecture.md and to LAYERS in this script"
        return
    torch_free = layer == "tools" or (layer.startswith("core/") and layer != "core/engine") or relative.startswith("sdk/base/")
    public = relative.startswith("sdk/") and path.suffix == ".h"
    if "at::parallel_for" in path.read_text() and path.name != "parallel_for.h":
        yield f"{relative}: at::parallel_for runs on one thread without OpenMP's compiler flag; take ops::parallel_for"
    for quoted, name in includes_of(path):
        own = quoted and (path.parent / name).exists() and layer in ("plugins", "sdk")
        if name.startswith("plugins/") or (quoted and "/plugins/" in name):
            yield f"{relative}: includes {name}; nothing includes plugins/"
        elif quoted and not own and not any(name.startswith(prefix) for prefix in LAYERS[layer]):
            yield f"{relative}: includes \"{name}\"; {layer} may include {', '.join(LAYERS[layer])}"
        if torch_free and (LIBTORCH.match(name) or (name.startswith("espalier/") and needs_libtorch(name))):
            yield f"{relative}: includes {name}, which needs LibTorch; {layer} is free of it"
        if public and PRIVATE_LIBRARIES.match(name):
            yield f"{relative}: public header includes <{name}>"
        if name.startswith("boost/dll") and relative != BOOST_DLL_OWNER:
            yield f"{relative}: includes {name}; only {BOOST_DLL_OWNER} does"


def main():
    problems = []
    for folder in ("core", "sdk", "plugins", "tools", "examples"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".h", ".cpp", ".cu", ".cuh") and "/include/espalier/base" not in path.as_posix():
                problems += problems_of(path)
    print("\n".join(problems) if problems else "includes follow the layers")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
