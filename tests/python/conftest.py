"""In CI nothing that a test wants may be missing: there a skip is a failure."""

import os

import pytest

# torch.compile would compile and load a program for each instruction set, to see whether the compiler knows it.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI does not allow: {call.excinfo.value}"
    return report
