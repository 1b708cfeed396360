"""Recorded and generated loads as one `Request` type: read, shaped to an experiment, or made up.

`formats` reads the public traces, `shape` changes their load and size, `generator` makes seeded
loads. The project ships no trace: callers bring a path.
"""
