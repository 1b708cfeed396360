"""What is special to decode: claim the KV a ticket names, generate, deliver tokens.

The mirror image of `prefill_worker`. Solo legs, whose prompt is computed on the spot, belong here
too: they differ only in having no ticket.
"""

from decode_worker.role import DecodeRole, SoloRole

__all__ = ["DecodeRole", "SoloRole"]
