"""A secret never shows itself."""

import copy
import json
import pickle
from typing import Any

import msgspec
import pytest

from app.secret import Secret

CANARY = "canary-7f3a"


@pytest.mark.parametrize("secret", [Secret(CANARY), Secret(CANARY.encode())])
def test_every_way_of_printing_gives_stars(secret: Secret[Any]) -> None:
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>10}", "%s %r" % (secret, secret), repr([secret])]  # noqa: UP031
    assert all("***" in text and "canary" not in text for text in shown)
    assert secret.reveal() in (CANARY, CANARY.encode())


def test_it_can_not_be_encoded_copied_or_pickled() -> None:
    secret = Secret(CANARY)
    for attempt in (
        lambda: msgspec.json.encode(secret),
        lambda: json.dumps(secret),
        lambda: pickle.dumps(secret),
        lambda: copy.copy(secret),
        lambda: vars(secret),
    ):
        with pytest.raises(TypeError) as caught:
            attempt()
        assert CANARY not in str(caught.value)


def test_it_compares_by_value_and_stays_itself() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") == Secret(b"a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("\ud800") != Secret("a")
    assert Secret("a")
    assert not Secret("")
