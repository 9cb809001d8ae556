"""Imported by every Python process that finds this folder first: measures its coverage where COVERAGE_PROCESS_START says so."""

import coverage

coverage.process_startup()
