"""The front door: one request's life from admission to its last token.

`flow` (pure) says what happens to a request, `policy` (pure) which workers serve it, `heart` runs
both over the `link`s to the workers, and `front` puts vLLM's own OpenAI server before it. Only
`front` may import vLLM: everything else works on opaque requests and leg ids. Nothing here knows
how workers are started.
"""
