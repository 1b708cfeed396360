"""After a handoff both workers tell of the prompt's blocks, and prefill of the transfer's cost."""

from __future__ import annotations

from benchmarks.engines import ClusterOfTwo
from benchmarks.legs import PushPair
from tests.engine.prompts import BLOCK, prompt
from tests.engine.test_cache_news import Router, keys


async def test_both_workers_hold_the_prompt(cluster: ClusterOfTwo, pair: PushPair) -> None:
    routers = [Router(cluster.prefill), Router(cluster.decode)]
    for router in routers:
        await router.open()
    for seed in range(300, 306):
        tokens = prompt(3 * BLOCK + seed, seed)
        await pair.run(tokens, 4, salt="both")
        for router in routers:
            await router.until_held(keys(tokens, "both"))
    prefill = routers[0]
    await prefill.until(lambda: prefill.costs.transfer.samples > 0)
    fit = prefill.costs.transfer
    print(f"transfer: {list(fit.coefficients)} after {fit.samples}, error {fit.error:.2f}")
    assert prefill.costs.prefill.samples > 0
    assert routers[1].costs.decode.samples > 0
    for router in routers:
        await router.close()
