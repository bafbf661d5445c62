"""What the miner finds out about a real vLLM, and what it says when that won't do."""

import json
from typing import Any

import openai
import pytest

from tests.conftest import StartMiner
from tests.miner.process import MinerProcess, fetch
from tests.vllm.server import ALIAS, CONTEXT, MODEL, VllmServer

OK, UNAVAILABLE = 200, 503


def health(miner: MinerProcess) -> dict[str, Any]:
    """What the operator sees."""
    return json.loads(fetch(miner.admin_port, "/health")[2])


def test_the_model_and_its_context_are_found(miner: MinerProcess, client: openai.OpenAI, vllm: VllmServer) -> None:
    assert fetch(miner.port, "/readyz")[0] == OK
    seen = health(miner)["backend"]
    assert (seen["model"], seen["context_tokens"]) == (MODEL, CONTEXT)
    assert seen["address"] == vllm.base_url.removesuffix("/v1")
    (model,) = client.models.list()
    assert model.id == MODEL
    assert client.models.retrieve(MODEL) == model


def test_another_of_its_models_can_be_chosen(start_miner: StartMiner) -> None:
    miner = start_miner(DEFAULT_MODEL=ALIAS)
    assert health(miner)["backend"]["model"] == ALIAS
    miner.stop()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"DEFAULT_MODEL": "nix"}, f"model nix not found, vLLM has {MODEL}, {ALIAS}: set DEFAULT_MODEL to one of them"),
        ({"DEFAULT_MODEL": ""}, f"DEFAULT_MODEL is not set, vLLM has {MODEL}, {ALIAS}: set DEFAULT_MODEL to one"),
        ({"MIN_CONTEXT_TOKENS": "16384"}, f"a context of {CONTEXT} tokens, and 16384 are needed: start it with --max-"),
    ],
)
def test_what_will_not_do_is_told(start_miner: StartMiner, settings: dict[str, str], says: str) -> None:
    miner = start_miner(wait=False, **settings)
    reasons: list[str] = []
    for body in miner.polls(20):
        assert body["available"] is False
        reasons.append(health(miner)["reason"])
        if says in reasons[-1]:
            break
    assert says in reasons[-1]
    assert fetch(miner.port, "/readyz")[0] == UNAVAILABLE
    miner.stop()
