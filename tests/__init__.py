"""Tests by tier: `unit`, `wire`, `engine` (and `engine_push`), `cluster`; see CONTRIBUTING.md.

What several tiers use is in this folder and in `fakes`; a fake never stands in for a part that the
tier says is real.
"""
