"""`baton bench`: an open load on any OpenAI endpoint, and what its clients saw.

`load` says what is asked and when, `prompts` makes the prompts, `client` asks once and times the
answer, `runner` asks on time whatever becomes of the answers, `figures` counts, `report` draws.
"""
