"""Names of prefixes: equal exactly for equal prefixes, everywhere and always."""

from hypothesis import example, given
from hypothesis import strategies as st

from baton import prefix_keys as keys

TOKENS = st.lists(st.integers(0, 2**31), max_size=40)


def test_keys_are_the_same_in_every_process() -> None:
    made = keys.of_tokens(range(8), 4, keys.salt("m"))
    assert made == (669236751325985710, 692241089625731401)


@given(TOKENS, TOKENS, TOKENS)
def test_a_prefix_has_one_name_whatever_follows(head, one, other) -> None:
    start, whole = keys.salt("m"), len(head) // 4
    left, right = (keys.of_tokens(head + tail, 4, start) for tail in (one, other))
    assert left[:whole] == right[:whole]
    assert len(left) == (len(head) + len(one)) // 4


@given(TOKENS.filter(lambda t: len(t) >= 4), st.integers(0, 3), st.integers(1, 9))
def test_one_other_token_renames_all_that_follows(tokens, at, more) -> None:
    changed = [*tokens[:at], tokens[at] + more, *tokens[at + 1 :]]
    before, after = (keys.of_tokens(t, 4, keys.salt("m")) for t in (tokens, changed))
    assert not set(before) & set(after)


def test_what_must_not_be_shared_has_other_names() -> None:
    salts = [("m",), ("n",), ("m", "lora"), ("m", "", "tenant"), ("m", "l", "ora"), ("ml", "ora")]
    assert len({keys.salt(*parts) for parts in salts}) == len(salts)


@given(st.text(), st.text(), st.text(), st.text())
@example("a", "ab", "bc", "c")
def test_no_wish_makes_one_tenants_salt_of_anothers(one, other, wish, another) -> None:
    same = keys.tenant_salt(one, wish) == keys.tenant_salt(other, another)
    assert same == ((one, wish) == (other, another))


def test_a_salt_made_for_a_tenant_is_none_of_a_client() -> None:
    made = keys.tenant_salt("a")
    assert made == keys.tenant_salt("a", "")
    assert len({made, keys.tenant_salt("b", made), keys.tenant_salt("a", made)}) == 3


@given(st.lists(st.integers(-(2**64), 2**64), min_size=1, max_size=20))
def test_ready_hashes_make_chained_keys_of_60_bits(hashes) -> None:
    made = keys.of_hashes(hashes, 7)
    assert len(made) == len(hashes) == len(set(made))
    assert all(0 <= key < 2**60 for key in made)
