"""Who is alive and how many: membership, supervision, and the only Ray files.

`membership` and `supervision` are pure: events in, tables and actions out. `controller` is the
shell that runs them over `crew` (the workers) and `fronts` (the routers). `placing` (pure) chooses
the machine of a worker. `ray_runtime` starts or joins Ray, `ray_actors` turns plain classes into
actors, `ray_nodes` knows the machines; nothing else of Baton imports Ray. This room knows workers
and routers by the protocols in `ports` alone and never imports their rooms.
"""
