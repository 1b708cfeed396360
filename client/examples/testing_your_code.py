"""How to test code that asks Baton, without a cluster: python testing_your_code.py."""

from baton_client import Client, OverloadedError, Retries
from baton_client.testing import FakeBaton


def title(client: Client, text: str) -> str:
    """The code under test."""
    return client.generate(f"A title for: {text}", max_tokens=10).text.strip()


def test_a_title_is_stripped() -> None:
    """The answer is scripted, and what was asked can be looked at."""
    with FakeBaton() as fake, Client(fake.address) as client:
        fake.answer(" A", " title ")
        assert title(client, "some text") == "A title"
        assert fake.requests[0].prompt.text == "A title for: some text"


def test_a_busy_cluster_is_waited_for() -> None:
    """Errors are scripted too; the client retries as it does in earnest."""
    with FakeBaton() as fake, Client(fake.address, retries=Retries(backoff_s=0.01)) as client:
        fake.fail(OverloadedError("full", reason="queue_full", retry_after_s=0.05))
        fake.answer("At last")
        assert title(client, "some text") == "At last"
        assert fake.calls["Generate"] == 2


if __name__ == "__main__":
    test_a_title_is_stripped()
    test_a_busy_cluster_is_waited_for()
    print("passed")
