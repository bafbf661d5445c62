"""What no machine and no wish may break."""

from typing import Final

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.compute.choice import choose
from app.domain.compute.fit import MIB
from app.domain.compute.hardware import Gpu, Hardware, Memory, Nvidia
from app.domain.compute.profile import Engine, EngineProfile, Wishes
from tests.compute.machines import CATALOGUE

CAPABILITIES: Final = [(5, 2), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]
NAMES: Final = [None, *CATALOGUE.models(), "Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4"]
LARGEST: Final = 256 * 1024

memories = st.integers(1024, LARGEST)
gpus = st.lists(
    st.tuples(
        memories | st.sampled_from([16303, 23028, 24564, 30720, 40960, 81559, 81920]),
        st.sampled_from(CAPABILITIES),
        st.sampled_from([None, False, False, True]),
    ),
    max_size=9,
)
any_wishes = st.builds(
    Wishes,
    engine=st.sampled_from([None, "vllm", "ollama", "llamacpp"]),
    model=st.sampled_from(NAMES),
    prefer=st.sampled_from(["speed", "quality"]),
    min_context=st.integers(256, 140_000) | st.just(16384),
    context=st.none() | st.integers(1, 140_000),
    tensor_parallel=st.none() | st.integers(1, 9),
    utilisation=st.floats(0.05, 1) | st.just(0.9),
    concurrent=st.integers(1, 64),
    token=st.booleans(),
)


def built(cards: list[tuple[int, tuple[int, int], bool | None]], ram_mib: int) -> Hardware:
    return Hardware(
        nvidia=Nvidia(
            gpus=tuple(
                Gpu(index=index, name="a card", memory=mib * MIB, compute_capability=capability, mig=mig)
                for index, (mib, capability, mig) in enumerate(cards)
            )
        ),
        memory=Memory(total=ram_mib * MIB),
    )


@given(cards=gpus, ram_mib=memories, wishes=any_wishes)
@example(cards=[(81920, (8, 0), None)], ram_mib=65536, wishes=Wishes(model="mixtral-8x22b-instruct", min_context=1024))
@example(cards=[(12288, (8, 6), None)] * 2, ram_mib=1024, wishes=Wishes(engine="vllm", tensor_parallel=1))
@settings(max_examples=250, deadline=None)
def test_no_accepted_profile_exceeds_memory_or_has_a_context_under_16384(
    cards: list[tuple[int, tuple[int, int], bool | None]], ram_mib: int, wishes: Wishes
) -> None:
    hardware = built(cards, ram_mib)
    chosen = choose(hardware, CATALOGUE, wishes)
    if not isinstance(chosen, EngineProfile):
        assert chosen.reasons
        assert all(reason.text and reason.remedy for reason in chosen.reasons)
        return
    if chosen.purpose == "development":  # the embedded model: it runs, and is said to earn nothing
        assert chosen.engine == "llamacpp"
        assert "embedded" in {note.code for note in chosen.notes}
        return
    assert chosen.context >= max(16384, wishes.min_context)
    assert chosen.context <= CATALOGUE.model_facts[chosen.model].native_context
    fit = chosen.fit
    assert fit
    at_once = 1 if chosen.engine == "vllm" else chosen.parallel
    assert fit.needed(chosen.context * at_once) <= fit.cards * fit.memory * fit.utilisation
    if fit.place == "ram":
        assert fit.memory == ram_mib * MIB
        return
    assert chosen.cards
    used = [hardware.nvidia.gpus[index] for index in chosen.cards.indices]
    assert len(used) == fit.cards == chosen.tensor_parallel
    assert all(gpu.memory >= fit.memory and not gpu.mig for gpu in used)
    assert fit.cards & (fit.cards - 1) == 0
    assert CATALOGUE.model_facts[chosen.model].kv_heads % fit.cards == 0
    if chosen.engine == "vllm":
        assert chosen.tier
        tier = CATALOGUE.tiers[chosen.tier]
        assert all(gpu.compute_capability >= tier.capability for gpu in used)


def _context(
    mib: int, capability: tuple[int, int], count: int, ram_mib: int, wishes: Wishes, engine: Engine | None
) -> int:
    hardware = built([(mib, capability, None)] * count, ram_mib)
    chosen = choose(hardware, CATALOGUE, msgspec.structs.replace(wishes, engine=engine, context=None))
    return chosen.context if isinstance(chosen, EngineProfile) and chosen.purpose == "earning" else 0


@given(
    sizes=st.tuples(memories, memories),
    capability=st.sampled_from(CAPABILITIES),
    count=st.integers(1, 8),
    wishes=any_wishes,
    engine=st.sampled_from([None, "vllm", "ollama", "llamacpp"]),
)
@settings(max_examples=250, deadline=None)
def test_more_memory_never_gives_a_smaller_context(
    sizes: tuple[int, int], capability: tuple[int, int], count: int, wishes: Wishes, engine: Engine | None
) -> None:
    less, more = sorted(sizes)
    # For llama.cpp it is the RAM that counts, and for the others that of the cards.
    assert _context(less, capability, count, less, wishes, engine) <= _context(
        more, capability, count, more, wishes, engine
    )


@given(mib=memories, capability=st.sampled_from(CAPABILITIES), counts=st.tuples(st.integers(1, 8), st.integers(1, 8)))
@settings(max_examples=150, deadline=None)
def test_more_gpus_never_give_a_smaller_context(mib: int, capability: tuple[int, int], counts: tuple[int, int]) -> None:
    fewer, more = sorted(counts)
    contexts = [_context(mib, capability, count, 1024, Wishes(), "vllm") for count in (fewer, more)]
    assert contexts == sorted(contexts)
