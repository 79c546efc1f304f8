"""Faults at the edge of the drivers, in any Python that has this folder first on its PYTHONPATH, and CHAOS_EDGE set.

CHAOS_EDGE is the probability of a fault for each exchange with DynamoDB or Elasticsearch; each fault is a line, its
kind, in the file ``$CHAOS_EDGE_LOG/<pid>.edge``. Nothing is imported before the program does so itself: a program that
talks to neither server notices nothing.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

WRAPPERS = {
    "backends.store.dynamodb_transport": "edge_dynamodb",
    "backends.search.elasticsearch_node": "edge_elasticsearch",
}
"""The modules that exchange HTTP with a server, and ours whose ``wrap`` comes between."""


class Edge:
    """Finds these modules where others find them, and has them wrapped as soon as they are executed."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        if name not in WRAPPERS:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                self._wrap(spec.loader, WRAPPERS[name])
                return spec
        return None

    @staticmethod
    def _wrap(loader: Any, wrapper: str) -> None:
        execute = loader.exec_module

        def execute_and_wrap(module: ModuleType) -> None:
            execute(module)
            importlib.import_module(wrapper).wrap(module)

        loader.exec_module = execute_and_wrap


def _be_no_obstacle() -> None:
    """Another sitecustomize, which ours hides, is executed too."""
    here = os.path.dirname(os.path.abspath(__file__))
    elsewhere = [path for path in sys.path if os.path.abspath(path) != here]
    spec = importlib.machinery.PathFinder.find_spec(__name__, elsewhere)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_be_no_obstacle()
if os.environ.get("CHAOS_EDGE"):
    sys.meta_path.insert(0, Edge())  # type: ignore[arg-type]
