"""What is promised to whom: each tenant's class, its promises, and how the tenant is counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from baton.settings import Settings, SloSettings
from baton.settings.admission import DEFAULT_TENANT
from baton.settings.router import DEFAULT_CLASS

TENANT_LABELS_MAX = 100
"""So many tenants are told apart in metrics."""
OTHER = "other"
"""All further ones together."""


@dataclass(frozen=True, slots=True)
class Promise:
    """To one tenant."""

    slo_class: str
    slo: SloSettings
    tenant_label: str


class Promises:
    """By tenant, as the settings say. Bounded by them."""

    def __init__(self, settings: Settings) -> None:
        slo, tenants = settings.slo, settings.admission.tenants
        self.classes = {name: slo.of_class(name) for name in (DEFAULT_CLASS, *slo.classes)}
        """Every class, by name."""
        self._named = _labels(tenants)
        self._by_tenant = {
            name: self._promise(name, one.slo_class or DEFAULT_CLASS)
            for name, one in tenants.items()
        }
        self._others = self._by_tenant.setdefault(
            DEFAULT_TENANT, self._promise(DEFAULT_TENANT, DEFAULT_CLASS)
        )

    @property
    def tenant_labels(self) -> frozenset[str]:
        """Every value that `Promise.tenant_label` has."""
        return frozenset(one.tenant_label for one in self._by_tenant.values())

    def to(self, tenant: str) -> Promise:
        """What this tenant is promised; one that the settings do not have is the default tenant."""
        return self._by_tenant.get(tenant, self._others)

    def _promise(self, tenant: str, slo_class: str) -> Promise:
        label = tenant if tenant in self._named else OTHER
        return Promise(slo_class, self.classes[slo_class], label)


def _labels(tenants: Iterable[str]) -> frozenset[str]:
    """The default tenant, and the first ones in the settings."""
    named = dict.fromkeys((DEFAULT_TENANT, *tenants))
    return frozenset(list(named)[:TENANT_LABELS_MAX])
