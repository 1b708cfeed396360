"""A random walk through the model, the same for the same seed."""

import random

from kv_transfer.ticket import messages as m
from kv_transfer.ticket.states import Checking
from tests.unit.kv_transfer.ticket.model import World

# How often each move is made, out of their sum.
WEIGHTS = {
    "submit": 10, "schedule": 20, "layer": 25, "complete": 10, "report": 20, "finish": 10,
    "preempt": 4, "drop": 2, "land": 40, "done": 20, "fail": 1, "doubt": 1.5, "allocate": 15,
    "verify": 15, "abort": 3, "preempt_decode": 2, "end": 6, "deliver": 40, "repeat": 6, "lose": 3,
    "wait": 7, "kill_prefill": 0.5, "reap": 3, "obey": 1, "kill_decode": 0.5, "outage": 0.7,
}  # fmt: skip
KINDS = (m.Alive, m.Register, m.Withdraw, m.Written, m.Closed)
TICKETS_MAX, OUTAGE_S = 30, 20.0


def walk(seed: int, moves: int = 400, checking: Checking = Checking.FULL) -> World:
    """Many moves, an outage if there is one goes on for a while, then the drain.

    Raises BrokenRuleError when something broke.
    """
    chance, world = random.Random(seed), World(checking, layers=1 + seed % 3, rank=seed % 2)
    for name in chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=moves):
        move(world, chance, name)
        world.check()
    world.live(OUTAGE_S if world.lost else 0.0)
    world.lost.clear()
    world.drain()
    return world


def move(world: World, chance: random.Random, name: str) -> None:
    pick = chance.randrange(100)
    match name:
        case "submit":
            if len(world.totals) < TICKETS_MAX:
                gone = chance.choice(("prefill", "decode", *[""] * 18))
                held = chance.choice((0, 0, 1, 4))
                world.submit(chance.randrange(4), chance.randint(1, 4), held, gone)
        case "schedule":
            # Mostly the oldest first, as engines do.
            world.schedule(pick if pick < 20 else 0, chance.randint(1, 3))
        case "layer":
            world.layer(tell=pick < 70)
        case "land":
            world.land(pick, world.checking is Checking.FULL and chance.random() < 0.1)
        case "outage":
            world.lost = set() if world.lost else {chance.choice(KINDS)}
        case "repeat":
            world.deliver(pick, keep=True)
        case "wait":
            world.wait(chance.choice((0.1, 0.1, 1.0, 1.0, 5.0, 10.0)))
        case "complete" | "report" | "allocate" | "kill_prefill" | "reap" | "obey" | "kill_decode":
            getattr(world, name)()
        case _:
            getattr(world, name)(pick)
