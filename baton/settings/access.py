"""Who may come in, and what tenants may notice of each other."""

from typing import Literal

from pydantic import Field

from baton.settings.section import Section


class AccessSettings(Section):
    """Who may come in, and what tenants may notice of each other."""

    keys_path: str | None = Field(
        None,
        min_length=1,
        description="File with the API keys, which `baton keys` writes and running routers follow; "
        "the same on every machine that runs a router. null = nobody is asked for a key of a "
        "tenant.",
    )
    separate_caches: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether tenants reuse the KV of their own prompts only, so that nobody can "
        "measure what others have asked. auto = where keys_path says who is who; always = also "
        "where x-baton-tenant is taken on trust; never = equal prompts share KV.",
    )

    def separates(self) -> bool:
        """Whether each tenant has its own part of the prefix caches."""
        by_key = self.separate_caches == "auto" and self.keys_path is not None
        return by_key or self.separate_caches == "always"
