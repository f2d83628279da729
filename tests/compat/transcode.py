"""Decodes every image of a directory to JSON and encodes the JSON again, as `crit` does, in one process of its python.

    transcode.py IN OUT      images that are raw (pages) are copied
"""

import json
import os
import runpy
import shutil
import sys


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


def main():
    source, target = sys.argv[1:]
    for name in sorted(os.listdir(source)):
        path, text = os.path.join(source, name), os.path.join(target, name + ".json")
        if name.startswith("pages-"):
            shutil.copyfile(path, os.path.join(target, name))
        elif name.endswith(".img"):
            try:
                crit("decode", "-i", path, "-o", text)
                with open(text) as file:
                    json.load(file)
                crit("encode", "-i", text, "-o", os.path.join(target, name))
            except Exception as problem:
                sys.exit(f"{name}: {type(problem).__name__}: {problem}")


main()
