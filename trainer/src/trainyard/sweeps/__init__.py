"""Hyper-parameter searches: a sweep file, a backend that proposes parameters, and trials that are runs."""
