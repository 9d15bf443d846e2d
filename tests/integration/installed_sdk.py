"""installed_sdk.py BUILD WORK [--compiler CXX] [--kinds a,b] [--copies DIR ...]: installs the build, moves the installation,
and works with it as a plugin author does, who has no source tree: `plugins new` for each kind, build, conformance, a
training run with the plugin; and plugins copied out of the source tree."""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time


def run(command, **options):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if result.returncode != 0:
        print(f"FAILED: {' '.join(map(str, command))}\n{result.stdout}\n{result.stderr}")
        sys.exit(1)
    return result.stdout


def install(build, work):
    """The installation under another name than it was made with."""
    shutil.rmtree(work, ignore_errors=True)
    run(["cmake", "--install", build, "--prefix", work / "first"])
    prefix = work / "elsewhere"
    (work / "first").rename(prefix)
    return prefix


def build_and_test(folder, prefix, environment, compiler):
    command = ["cmake", "-S", folder, "-B", folder / "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}"]
    if compiler:
        command.append(f"-DCMAKE_CXX_COMPILER={compiler}")
    if shutil.which("ccache"):
        command.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
    run(command, env=environment)
    run(["cmake", "--build", folder / "build", "-j", "2"], env=environment)
    run(["ctest", "--test-dir", folder / "build", "--output-on-failure"], env=environment)


def new_plugin(kind, prefix, work, environment, compiler):
    start = time.monotonic()
    program = prefix / "bin" / "espalier"
    name = f"my_{kind}"
    run([program, "plugins", "new", kind, name], cwd=work, env=environment)
    folder = work / name
    build_and_test(folder, prefix, environment, compiler)
    plugin = folder / "build" / f"{name}.espalier.so"
    listed = json.loads(run([program, "plugins", "list", "--json", "--plugins", plugin], env=environment))
    mine = [plugin for plugin in listed["plugins"] if plugin["id"] == f"example.{name}"]
    assert mine and mine[0]["components"][0]["name"] == name, listed
    run([program, "train", "recipe.toml", "--plugins", plugin], cwd=folder, env=environment)
    lock = json.loads((folder / "runs" / name / "plugins.lock").read_text())
    assert any(entry["id"] == f"example.{name}" for entry in lock["plugins"]), "the run did not use the plugin"
    source = len((folder / f"{name}.cpp").read_text().splitlines())
    print(f"{kind}: {source} lines, built, tested and trained in {time.monotonic() - start:.1f} s", flush=True)


def copied_plugins(folders, prefix, work, environment, compiler):
    """In-tree plugins, unchanged, under a project of their own."""
    project = work / "copies"
    project.mkdir()
    lines = ["cmake_minimum_required(VERSION 3.25)", "project(copies LANGUAGES C CXX)", "set(CMAKE_BUILD_TYPE Release)",
             "find_package(Espalier REQUIRED)", "enable_testing()"]
    for folder in folders:
        shutil.copytree(folder, project / folder.name)
        lines.append(f"add_subdirectory({folder.name})")
    (project / "CMakeLists.txt").write_text("\n".join(lines) + "\n")
    start = time.monotonic()
    build_and_test(project, prefix, environment, compiler)
    print(f"{', '.join(folder.name for folder in folders)}: built and tested out of the tree in "
          f"{time.monotonic() - start:.1f} s", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--libtorch", type=pathlib.Path, required=True)
    parser.add_argument("--compiler")
    parser.add_argument("--kinds")
    parser.add_argument("--copies", nargs="*", type=pathlib.Path, default=[])
    arguments = parser.parse_args()
    prefix = install(arguments.build, arguments.work)
    # LibTorch elsewhere than where it was for the build.
    libtorch = arguments.work / "libtorch"
    libtorch.symlink_to(arguments.libtorch)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ESPALIER_", "XDG_CACHE"))}
    environment["ESPALIER_LIBTORCH"] = str(libtorch)
    templates = sorted(path.name for path in (prefix / "share" / "espalier" / "template").iterdir()
                       if path.name != "common")
    kinds = templates if arguments.kinds is None else [kind for kind in arguments.kinds.split(",") if kind != "none"]
    for kind in kinds:
        new_plugin(kind, prefix, arguments.work, environment, arguments.compiler)
    if arguments.copies:
        copied_plugins(arguments.copies, prefix, arguments.work, environment, arguments.compiler)
    shutil.rmtree(arguments.work)


if __name__ == "__main__":
    main()
