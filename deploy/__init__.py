"""Where Baton is put together and run: the command line, and what ships beside the code.

The composition root: the one room that may import all others. Nothing imports it.
"""
