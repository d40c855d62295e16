# SPDX-License-Identifier: Apache-2.0
"""The list of attacks is whole, and each has a test that is there."""
import ast
import pathlib
import re

from tests.hostile_cases import CASES, FILE, NONE, TOKENS

HERE = pathlib.Path(__file__).parent
IDS = [f"{letter}-{number:02}" for letter, count in (("M", 52), ("T", 25), ("C", 28), ("S", 10)) for number in range(1, count + 1)]


def test_each_of_the_115_cases_stands_in_the_table_once():
    assert [case.id for case in CASES] == IDS and len(IDS) == 115


def test_each_case_names_tests_that_exist():
    known = {}
    for case in CASES:
        assert case.tests and case.sent and case.must, case.id
        for reference in case.tests:
            file, name = reference.split("::")
            if file not in known:
                tree = ast.parse((HERE / file).read_text())
                known[file] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert name in known[file], reference


def test_each_counter_is_one_that_the_gateway_has():
    text = (HERE.parent / "gateway/metrics/metrics.h").read_text() + (HERE.parent / "gateway/metrics/metrics.c").read_text()
    for case in CASES:
        assert case.counter in (NONE, FILE) or f'"{case.counter}"' in text or case.counter + "{check=" in text, case


def test_the_rows_of_bytes_hold_every_case_that_is_said_to_be_among_them():
    hostile, tokens = (HERE / "test_hostile.py").read_text(), (HERE / "test_hostile_tokens.py").read_text()
    for case in CASES:
        for reference in case.tests:
            if reference == TOKENS:
                assert f"{case.id} " in tokens, case.id
    named = set(re.findall(r"\b([MTCS]-\d\d)\b", hostile + tokens + (HERE / "test_hostile_wire.py").read_text()
                           + (HERE / "test_hostile_store.py").read_text()))
    assert named <= set(IDS)


def test_who_has_a_bound_in_the_place_of_a_number_says_why():
    bounded = set()
    for file in {reference.split("::")[0] for case in CASES for reference in case.tests}:
        text = (HERE / file).read_text()
        bounded |= {f"{file}::{node.name}" for node in ast.parse(text).body
                    if isinstance(node, ast.FunctionDef) and "at_least=" in ast.get_source_segment(text, node) and node.name.startswith("test_")}
    for case in CASES:
        assert bool(case.chance) == any(reference in bounded for reference in case.tests), case.id
