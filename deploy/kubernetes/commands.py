"""`baton deploy …`: arguments in, exit code out, text on standard output."""

from __future__ import annotations

import argparse
import sys

from deploy.kubernetes import render as manifests
from deploy.kubernetes.profiles import choose
from deploy.option_types import writing


def render(args: argparse.Namespace) -> int:
    """`baton deploy render`: the manifests, or the files, one per line."""
    values = choose(args.profile, args.file, args.set)
    if args.out is None:
        sys.stdout.write(manifests.as_one(values))
    else:
        with writing(args.out):
            written = manifests.write(values, args.out)
        sys.stdout.write("".join(f"{path}\n" for path in written))
    return 0


def schema(_args: argparse.Namespace) -> int:
    """`baton deploy schema`."""
    sys.stdout.write(manifests.schema())
    return 0
