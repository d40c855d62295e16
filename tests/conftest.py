# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a cloud and a gateway for each test file, devices as needed. Nothing outlives its test file."""
import itertools
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from tests.lib.attester import IMPLEMENTATION, MEASUREMENT, SIGNER  # noqa: E402
from tools.lab.cloud import Cloud  # noqa: E402
from tools.lab.gateway import Gateway  # noqa: E402
from tools.lab.process import alarms  # noqa: E402

_numbers = itertools.count(1)


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: not worth running a second time under sanitizers")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
    """After a test, and after the fixtures that end with it: a process that failed and was started again fails it too."""
    found = alarms.copy()
    alarms.clear()
    assert not found, "\n".join(found)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    made = Cloud(tmp_path_factory.mktemp("cloud")).start().log()
    yield made
    made.stop()


def add_reference(gateway):
    """Accept the firmware of tests/lib/attester.py."""
    gateway.cli("reference", "add", "--implementation-id", IMPLEMENTATION.hex(), "--component",
                f"NSPE={MEASUREMENT.hex()},signer={SIGNER.hex()}")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, cloud):
    """A running gateway with two loops, the cloud behind it and one accepted firmware."""
    made = Gateway(tmp_path_factory.mktemp("gateway") / "home", cloud, threads=2,
                   extra="limits: {log_lines: 0}\n"  # hundreds of tests count its lines
                         "roles:\n  watcher: {publish: [], subscribe: ['#']}\n")
    add_reference(made)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def names():
    """`names("dev")`: a device name that no other test of this run has."""
    return lambda prefix="dev": f"{prefix}-{next(_numbers)}"


@pytest.fixture
def device(gateway, names):
    """`device(role=…, options…)`: a registered device's bundle."""
    def add(*options, role="sensor", name=None):
        return gateway.add(name or names(role), *options, role=role)
    return add
