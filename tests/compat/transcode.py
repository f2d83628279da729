"""Decodes every image of a directory to JSON, as `crit` does, in one process of its python; with OUT, encodes the JSON again.

    transcode.py IN [OUT]      images that are raw (pages) are copied
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


def transcode(source, target, texts):
    for name in sorted(os.listdir(source)):
        path, text = os.path.join(source, name), os.path.join(texts, name + ".json")
        if name.startswith("pages-"):
            if target:
                shutil.copyfile(path, os.path.join(target, name))
        elif name.endswith(".img") or name in STATISTICS:
            try:
                crit("decode", "-i", path, "-o", text)
                with open(text) as file:
                    json.load(file)
                if target:
                    crit("encode", "-i", text, "-o", os.path.join(target, name))
            except Exception as problem:
                sys.exit(f"{name}: {type(problem).__name__}: {problem}")


source, target = (sys.argv[1:] + [None])[:2]
with tempfile.TemporaryDirectory() as texts:
    transcode(source, target, texts)
