"""Workers that say what they hold and what work costs, and prompts for them."""

from baton import prefix_keys
from baton.messages import Dispatch, Role
from baton.settings import Settings
from baton.wire import worker_pb2 as pb
from tests.unit.router.fakes import Scene, info

BLOCK = 16
P0, P1, P2 = (
    info(f"p{n}", Role.PREFILL, dispatch=Dispatch.CONCURRENT, kv_blocks=10_000) for n in range(3)
)
D, D2 = (info(n, Role.DECODE, dispatch=Dispatch.CONCURRENT, kv_blocks=10_000) for n in ("d", "e"))
COSTS = pb.Costs(
    prefill=pb.Fit(coefficients=[0.01, 0.0005, 0.0], samples=50, error=0.04),
    decode=pb.Fit(coefficients=[0.02, 0.0, 0.0], samples=50),
    transfer=pb.Fit(coefficients=[0.001, 1e-6], samples=50),
)


def scene_of(**router) -> Scene:
    return Scene(Settings.model_validate({"router": router, "admission": {"shed_at": 0}}))


def prompt(seed: int, tokens: int = 2048) -> dict:
    """A prompt that shares nothing with those of other seeds."""
    return {"tokens": [seed * 100_000 + n for n in range(tokens)], "prompt_tokens": tokens}


def blocks(seed: int, tokens: int = 2048, salt: str = "") -> tuple[int, ...]:
    start = prefix_keys.salt("m", cache_salt=salt)
    return prefix_keys.of_tokens(prompt(seed, tokens)["tokens"], BLOCK, start)


def up(scene: Scene, *infos, holding=None) -> None:
    """These workers are the cluster; each says what it holds and what work costs."""
    scene.up(*infos)
    for one in infos:
        tell(scene, one.worker_id, (holding or {}).get(one.worker_id, ()))


def tell(scene: Scene, worker: str, stored=(), **load) -> None:
    cache = pb.CacheDelta(number=1, stored=stored, full=True)
    scene.frame(worker, news={"cache": cache, "costs": COSTS}, **load)


def went_to(scene: Scene) -> dict[str, list[str]]:
    return {name: [s.leg_id for s in link.submits] for name, link in scene.links.items()}


def whys(scene: Scene, name: str = "r") -> dict:
    return scene.heart.explain(name)[-1]["why"]
