"""Decodes every image of a directory to JSON, as `crit` does, in one process of its python; with OUT, encodes the JSON again.

    transcode.py IN [OUT]      images that are raw (pages) are copied
    transcode.py --all IN...   many directories: every image that cannot be decoded is named, and the number of those that can
"""

import json
import os
import runpy
import shutil
import sys
import tempfile


STATISTICS = ("stats-dump", "stats-restore")


def crit(*words):
    sys.argv = ["crit", *words]
    try:
        runpy.run_module("crit", run_name="__main__")
    except ImportError:  # 3.17 has it in pycriu
        from pycriu.cli import main
        main()
    except SystemExit as end:
        if end.code:
            raise


def is_image(name):
    return (name.endswith(".img") and not name.startswith("pages-")) or name in STATISTICS


def decode(path, text):
    crit("decode", "-i", path, "-o", text)
    with open(text) as file:
        json.load(file)


def decode_all(sources, texts):
    decoded, problems, known = 0, [], set()
    for source in sources:
        for name in sorted(filter(is_image, os.listdir(source))):
            path = os.path.join(source, name)
            try:
                with open(path, "rb") as file:  # its magic is in it
                    content = file.read()
                if content not in known:
                    decode(path, os.path.join(texts, "one.json"))
                    known.add(content)
                decoded += 1
            except Exception as problem:
                problems.append(f"{os.path.basename(source)}/{name}: {type(problem).__name__}: {problem}")
    print("\n".join([*problems, f"{decoded} images of {len(sources)} directories"]))
    return 1 if problems or not decoded else 0


def transcode(source, target, texts):
    for name in sorted(os.listdir(source)):
        path, text = os.path.join(source, name), os.path.join(texts, name + ".json")
        if name.startswith("pages-"):
            if target:
                shutil.copyfile(path, os.path.join(target, name))
        elif is_image(name):
            try:
                decode(path, text)
                if target:
                    crit("encode", "-i", text, "-o", os.path.join(target, name))
            except Exception as problem:
                sys.exit(f"{name}: {type(problem).__name__}: {problem}")


arguments = sys.argv[1:]
with tempfile.TemporaryDirectory() as texts:
    if arguments[0] == "--all":
        sys.exit(decode_all(arguments[1:], texts))
    source, target = (arguments + [None])[:2]
    transcode(source, target, texts)
