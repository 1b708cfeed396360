"""Grafana dashboards and Prometheus rules, built from code: plain JSON and YAML, no library.

One file for each dashboard says what it shows; `model` renders it for Grafana, `rules` for
Prometheus, `describe` for people.
"""
