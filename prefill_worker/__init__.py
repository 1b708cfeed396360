"""What is special to prefill: compute a prompt's KV, keep it for decode, drop the token.

The mirror image of `decode_worker`. A worker carries both, so that it can change its role while it
runs; which legs it gets is the router's choice.
"""

from prefill_worker.role import PrefillRole

__all__ = ["PrefillRole"]
