"""Project names: which are accepted, and that the proposed mend always is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whook.chassis.names import RESERVED, check_project_name


@pytest.mark.parametrize("name", ["a", "demo", "shop", "my-shop-2", "0", "4ever", "a" * 63, "relayed", "x-y"])
def test_accepts(name: str) -> None:
    assert check_project_name(name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is empty"),
        ("a" * 64, "has 64 characters"),
        ("Shop", "use 'shop'"),
        ("my_shop", "use 'my-shop'"),
        ("-shop-", "use 'shop'"),
        ("shop.eu", "use 'shop-eu'"),
        ("café", "begin and end with a letter or digit"),
        ("shop\n", "use 'shop'"),
        ("xn--caf-dma", "'--' after its second character"),
        ("api", "is reserved; use 'my-api'"),
        ("API", "use 'my-api'"),
        ("relay-7", "is reserved; use 'my-relay-7'"),
        ("---", "must have only"),
        ("٣", "must have only"),
    ],
)
def test_refuses_and_says_what_to_do(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        check_project_name(name)


@pytest.mark.parametrize("name", ["api", "auth", "www", "admin", "status", "mail", "relay", "localhost"])
def test_reserves(name: str) -> None:
    assert name in RESERVED


@given(st.text(max_size=80) | st.from_regex(r"[a-zA-Z0-9-]{1,70}", fullmatch=True))
def test_what_passes_is_a_dns_label_and_the_mend_passes(name: str) -> None:
    try:
        assert check_project_name(name) == name
    except ValueError as error:
        said = str(error)
    else:
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name, re.ASCII)
        assert name not in RESERVED
        return
    assert "\n" not in said
    if mend := re.search(r"; use '([^']*)'\Z", said):
        assert check_project_name(mend[1]) == mend[1]
