"""A worker's rows are its last report, and go with it."""

from baton.messages import Role
from tests.unit.router.fakes import D, P, Scene, member


async def test_a_workers_rows_go_with_the_worker(scene: Scene) -> None:
    scene.up(P, D)
    scene.frame("d", running=3, kv_used=0.5)
    labels = {"worker": "d", "role": Role.DECODE.value}
    assert scene.sample("baton_worker_up", **labels) == 1
    assert scene.sample("baton_worker_running_requests", **labels) == 3
    assert scene.sample("baton_worker_kv_used_ratio", **labels) == 0.5
    scene.lose("d")
    assert scene.sample("baton_worker_up", **labels) == 0
    scene.view(member(P))
    assert scene.sample("baton_worker_up", **labels) is None
