#!/usr/bin/python3
"""Collects the tests of several build directories into one, so that one ctest runs them all and sums them up.

    collect.py OUT CONFIGURATION...      writes OUT/CTestTestfile.cmake
    collect.py --threaded-folders        prints the folders that the thread sanitizer is for
"""

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# What has sockets and several threads; the engine's helper threads only write buffers or read /proc.
THREADED = ("common/api", "common/net", "coordinator", "pageserver", "agent/service", "agent/jobs", "agent/transfer",
            "agent/workload")
# These drive the real programs in a lab, where sanitizers would only distort the times, or none of them at all.
ON_RELEASE = {"deploy", "docs", "e2e", "faults", "faults-all", "seeds", "compat", "model"}
# Properties that name other tests, or things that tests of one build directory share.
NAMING = ("DEPENDS", "FIXTURES_SETUP", "FIXTURES_REQUIRED", "FIXTURES_CLEANUP")
FUZZ_SECONDS = os.environ.get("GODWIT_FUZZ_SECONDS", "5")


def wanted(configuration: str, folder: str, labels: set[str]) -> bool:
    match configuration:
        case "release":
            return bool(labels & ON_RELEASE)
        case "tsan":
            return folder.startswith(THREADED) and not labels & ON_RELEASE
        case "gcc12":  # that the other compiler's code works; the workloads would say it a second time
            return folder != "tests/workloads" and not labels & ON_RELEASE
        case "fuzz":
            return False
    return not labels & ON_RELEASE


def folder_of(test: dict, graph: dict) -> str:
    node = graph["nodes"][test["backtrace"]]
    while "parent" in node:
        node = graph["nodes"][node["parent"]]
    return str(Path(graph["files"][node["file"]]).parent.relative_to(REPOSITORY))


def quoted(text: str) -> str:
    return "[==[" + text + "]==]"


def value_of(value) -> str:
    if isinstance(value, list):
        return quoted(";".join(str(item["name"] if isinstance(item, dict) else item) for item in value))
    return quoted(str(value))


def tests_of(configuration: str):
    build = REPOSITORY / "build" / configuration
    listed = subprocess.run(["ctest", "--test-dir", build, "--show-only=json-v1"], check=True, capture_output=True, text=True)
    data = json.loads(listed.stdout)
    for test in data["tests"]:
        properties = {item["name"]: item["value"] for item in test["properties"]}
        if wanted(configuration, folder_of(test, data["backtraceGraph"]), set(properties.get("LABELS", []))):
            if "command" not in test:
                sys.exit(f"tests/run: {test['name']} of {configuration} is not built")
            for key in NAMING:
                if key in properties:
                    properties[key] = [f"{configuration}/{name}" for name in properties[key]]
            yield f"{configuration}/{test['name']}", test["command"], properties


def entry(name: str, command: list[str], properties: dict) -> str:
    lines = [f"add_test({quoted(name)} {' '.join(quoted(part) for part in command)})"]
    if properties:
        lines.append(f"set_tests_properties({quoted(name)} PROPERTIES")
        lines += [f"  {key} {value_of(value)}" for key, value in properties.items()]
        lines.append(")")
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:] == ["--threaded-folders"]:
        print("\n".join(THREADED))
        return
    out, configurations = Path(sys.argv[1]), sys.argv[2:]
    entries = []
    for configuration in configurations:
        if configuration == "fuzz":
            command = [str(REPOSITORY / "tests/fuzz/run-all"), FUZZ_SECONDS]
            entries.append(entry("fuzz/all", command, {"LABELS": ["fuzz"], "TIMEOUT": 1800}))
        entries += [entry(*test) for test in tests_of(configuration)]
    out.mkdir(parents=True, exist_ok=True)
    (out / "CTestTestfile.cmake").write_text("\n".join(entries) + "\n")


if __name__ == "__main__":
    main()
