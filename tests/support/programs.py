"""Programs of the tests as modules."""

import importlib.machinery
import importlib.util
import os


def load(name: str, path: str | os.PathLike):
    """A module from a program that has no .py in its name."""
    loader = importlib.machinery.SourceFileLoader(name, os.fspath(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module
