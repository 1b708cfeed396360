"""How large a KV block will be, reckoned from the model folder without starting an engine."""

from __future__ import annotations

from baton.errors import StartupError, StartupFault
from baton.settings.model import EngineSettings, Settings
from engine.model_folder import ModelFolder

# vLLM's choice where the settings leave it open.
_BLOCK_TOKENS = {"cpu": 128, "cuda": 16}
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_NO_SIZE_HINT = "Name the size of a block in bytes with --size."


def block_tokens(engine: EngineSettings, device: str) -> int:
    """Tokens in one block."""
    given = engine.extra_args.get("block_size") or engine.block_size_tokens
    return int(given or _BLOCK_TOKENS[device])


def block_pieces(
    settings: Settings, model: ModelFolder, device: str, dtype: str
) -> tuple[int, ...]:
    """Bytes of a block's pieces on one device: one per layer, K and V together.

    Raises StartupError MODEL_INVALID where the configuration does not say enough.
    """
    width = _value_bytes(settings.engine, model.dtype if dtype == "auto" else dtype)
    if width is None or not model.layers or model.kv_values_per_token is None:
        raise StartupError(
            StartupFault.MODEL_INVALID,
            f"the configuration of {model.path.name} does not say how large its KV is",
            hint=_NO_SIZE_HINT,
        )
    values = model.kv_values_per_token * block_tokens(settings.engine, device)
    piece = values * width // model.layers // settings.engine.tensor_parallel_size
    return (piece,) * model.layers


def _value_bytes(engine: EngineSettings, dtype: str | None) -> int | None:
    cache = str(engine.extra_args.get("kv_cache_dtype", "auto"))
    if cache.startswith(("fp8", "int8")):
        return 1
    return _BYTES.get(dtype or "" if cache == "auto" else cache)
