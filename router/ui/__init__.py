"""The live page at `/ui`: what this router sees of the cluster, for people.

`figures` reads the metrics, `history` keeps their totals of the last minutes, `data` makes one JSON
object of it all, `board` is the shell, `routes` serves it. The page itself is plain HTML, CSS and
JavaScript beside this file.
"""
