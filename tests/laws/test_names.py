"""A class name means one thing in the whole source."""

import ast
import collections

from . import source


def test_a_class_name_is_defined_once():
    places = collections.defaultdict(list)
    for name, path in source.modules().items():
        for node in ast.walk(source.tree(path)):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name)
    assert len(places) > 100
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
