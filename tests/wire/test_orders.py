"""Orders reach a running cluster through its run folder."""

import threading
from pathlib import Path

import pytest

from baton.errors import BatonError, Reason
from deploy.orders import Orders

pytestmark = pytest.mark.wire


@pytest.fixture
def orders(tmp_path: Path) -> Orders:
    return Orders(tmp_path / "orders")


def given(orders: Orders, order, obey):
    """What the giver gets, while another thread obeys."""
    result: list = []

    def give() -> None:
        try:
            result.append(orders.give(order))
        except BatonError as error:
            result.append(error)

    giver = threading.Thread(target=give)
    giver.start()
    while giver.is_alive():
        orders.take(obey)
        giver.join(0.01)
    return result[0]


def test_an_order_is_taken_and_answered(orders: Orders, tmp_path: Path) -> None:
    assert given(orders, {"do": "x"}, lambda o: {"got": o["do"]}) == {"got": "x"}
    assert list((tmp_path / "orders").iterdir()) == []


def test_a_refusal_comes_back_typed(orders: Orders) -> None:
    def obey(_order):
        raise BatonError(Reason.NO_WORKER, "there is no worker d")

    error = given(orders, {"do": "x"}, obey)
    assert (error.reason, error.message) == (Reason.NO_WORKER, "there is no worker d")


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_nonsense_is_refused_and_removed(orders: Orders, tmp_path: Path, text: str) -> None:
    folder = tmp_path / "orders"
    folder.mkdir()
    (folder / "a.order").write_text(text)
    assert orders.take(lambda order: {"got": order["missing"]}) == 1
    assert "invalid_request" in (folder / "a.answer").read_text()
    assert not (folder / "a.order").exists()
    orders.close()
    assert not folder.exists()


def test_nobody_answers(orders: Orders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("deploy.orders._ANSWER_WITHIN_S", 0.1)
    with pytest.raises(BatonError, match="did not answer"):
        orders.give({"do": "x"})
    assert list((tmp_path / "orders").iterdir()) == []


def test_without_a_folder_there_is_nothing_to_do(orders: Orders) -> None:
    assert orders.take(dict) == 0
    orders.close()
