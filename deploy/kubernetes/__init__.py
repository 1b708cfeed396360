"""Kubernetes manifests, built from values: plain dicts, no templates.

`values` says what can be chosen, `profiles` are choices to start from, `own_settings` is what Baton
itself is told. Each of the other files builds one kind of manifest; `render` puts them together.
"""
