"""Options of the benchmarks, and the tables they end with."""

from __future__ import annotations

from pathlib import Path

import pytest

TABLES = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("depthsr")
    group.addoption("--threads", type=int, default=2, help="of every contender, on a CPU (2)")
    group.addoption("--model", default="edge", help="bench_cpu: edge, or the folder of a model without Depth Anything")
    group.addoption("--seconds", type=float, help="bench_cpu: of each contender's calls (0.6 for a block, 2 for edge)")
    group.addoption(
        "--rows",
        type=Path,
        help="bench_cpu, bench_block_training: write the rows to this JSON file, anew after every case",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for table in config.stash[TABLES]:
        terminalreporter.write_line(table)


@pytest.fixture(scope="session")
def tables(pytestconfig: pytest.Config) -> list[str]:
    """Texts that are printed when all is measured."""
    return pytestconfig.stash[TABLES]
