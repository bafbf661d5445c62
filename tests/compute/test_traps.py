"""The traps of choosing a model, one test each."""

import msgspec
import pytest

from app.domain.compute.fit import GIB, MIB, gpu_overhead
from app.domain.compute.hardware import Gpu, Hardware, Nvidia
from app.domain.compute.profile import Wishes
from tests.compute.machines import CATALOGUE, accepted, machine, refused

SHOWN_BY_NVIDIA_SMI = [
    (16303, (12, 0), "rtx_5080_16gb"),
    (23028, (8, 6), "a10_24gb"),
    (40960, (8, 0), "a100_40gb"),
    (81920, (8, 0), "a100_80gb"),
    (81559, (9, 0), "h100_80gb"),
]


@pytest.mark.parametrize(("mib", "capability", "tier"), SHOWN_BY_NVIDIA_SMI)
def test_mib_are_compared_in_bytes_with_gb_not_with_gib(mib: int, capability: tuple[int, int], tier: str) -> None:
    """Each recommended card makes its own tier, though most of them have fewer GiB than the tier has GB."""
    assert accepted(machine(mib, capability)).tier == tier
    if tier not in {"a100_40gb", "a100_80gb"}:
        assert mib / 1024 < CATALOGUE.tiers[tier].min_vram


@pytest.mark.parametrize(
    ("mib", "capability", "tier"),
    [
        (24576, (8, 6), "a10_24gb"),  # RTX 3090
        (24564, (8, 9), "a10_24gb"),  # RTX 4090
        (23034, (8, 9), "a10_24gb"),  # L4
        (46068, (8, 9), "a100_40gb"),  # L40S
        (49140, (8, 6), "a100_40gb"),  # A6000
        (143771, (9, 0), "h100_80gb"),  # H200
        (183359, (10, 0), "h100_80gb"),  # B200
        (32607, (12, 0), "a10_24gb"),  # RTX 5090
    ],
)
def test_a_card_is_chosen_for_by_memory_and_capability_never_by_name(
    mib: int, capability: tuple[int, int], tier: str
) -> None:
    assert accepted(machine(mib, capability)).tier == tier


@pytest.mark.parametrize(
    ("mib", "capability"), [(0, (8, 6)), (12288, (8, 6)), (15360, (7, 5)), (16376, (8, 9)), (32768, (7, 0))]
)
def test_below_every_tier_llama_cpp_runs_and_the_reason_is_told(mib: int, capability: tuple[int, int]) -> None:
    profile = accepted(machine(mib, capability))
    assert (profile.engine, profile.purpose, profile.tier) == ("llamacpp", "development", None)
    assert profile.notes[0].code == "no_tier"
    assert not mib or f"{mib} MiB" in profile.notes[0].text


def test_just_under_a_tier_is_under_it_and_exactly_on_it_is_in_it() -> None:
    def card(size: int) -> Hardware:
        gpu = Gpu(index=0, name="a card", memory=size, compute_capability=(9, 0))
        return Hardware(nvidia=Nvidia(gpus=(gpu,)))

    assert accepted(card(24 * 10**9)).tier == "a10_24gb"
    assert accepted(card(24 * 10**9 - 1)).tier is None
    assert accepted(card(80 * 10**9)).tier == "h100_80gb"


def test_the_retired_tier_is_kept_working_and_told() -> None:
    profile = accepted(machine(16303, (12, 0)))
    assert (profile.tier, profile.model) == ("rtx_5080_16gb", "qwen2.5-7b-instruct")
    assert [note.code for note in profile.notes] == ["retired_upstream"]
    assert "retired upstream" in profile.notes[0].text
    assert not accepted(machine(23028)).notes


def test_native_32k_context_is_never_exceeded() -> None:
    """80 GB would hold 210 944 tokens of the 32B, and the tier allows 131 072: its config says 32768."""
    profile = accepted(machine(81920, (8, 0)))
    assert profile.fit
    assert profile.fit.tokens == 210_944
    assert profile.context == 32768
    reason = refused(machine(81920, (8, 0)), Wishes(context=65536))
    assert reason.code == "context_too_long"
    assert "32768" in reason.text
    assert "YaRN" in reason.text


def test_a_context_under_16384_is_refused_with_the_arithmetic() -> None:
    reason = refused(machine(81920, (8, 0)), Wishes(model="mixtral-8x22b-instruct"))
    assert reason.code == "memory"
    for part in ("16384", "81920 MiB x 0.9 = 77.3 GB", "73.7 GB", "229376 bytes", "3072"):
        assert part in reason.text
    assert refused(machine(23028), Wishes(context=8192)).code == "context_too_small"


def test_a_least_context_that_no_model_was_made_for_names_its_setting() -> None:
    for engine in ("vllm", "ollama"):
        wishes = msgspec.convert({"engine": engine, "min_context": 65536, "model": "qwen2.5-14b-instruct"}, Wishes)
        reason = refused(machine(81920, (8, 0)), wishes)
        assert reason.code == "context_too_long"
        assert "MIN_CONTEXT_TOKENS=65536" in reason.text
        assert "MIN_CONTEXT_TOKENS to 32768 or less" in reason.remedy


def test_a_lower_min_context_does_not_lower_the_floor() -> None:
    reason = refused(machine(81920, (8, 0)), Wishes(model="mixtral-8x22b-instruct", min_context=1024))
    assert reason.code == "memory"


def test_mixtral_takes_95_percent_or_two_gpus_and_is_not_recommended() -> None:
    wishes = Wishes(model="mixtral-8x22b-instruct", utilisation=0.95)
    for profile in (
        accepted(machine(81559, (9, 0)), wishes),
        accepted(machine(81920, (8, 0), 2), msgspec.structs.replace(wishes, utilisation=0.9)),
    ):
        assert profile.context == 16384
        assert "not_recommended" in {note.code for note in profile.notes}


def test_tensor_parallel_must_divide_the_kv_heads() -> None:
    """The 7B has 4 kv heads: of eight GPUs four serve it, and eight are refused."""
    eight = machine(81559, (9, 0), 8)
    profile = accepted(eight, Wishes(model="qwen2.5-7b-instruct"))
    assert profile.tensor_parallel == 4
    assert profile.cards
    assert profile.cards.indices == (0, 1, 2, 3)
    assert [note.code for note in profile.notes] == ["unused_gpus"]
    reason = refused(eight, Wishes(model="qwen2.5-7b-instruct", tensor_parallel=8))
    assert reason.code == "tensor_parallel"
    assert "does not divide the 4 kv heads" in reason.text
    assert "TENSOR_PARALLEL_SIZE=4" in reason.remedy


def test_tensor_parallel_is_a_power_of_two_of_equal_gpus() -> None:
    assert accepted(machine(81920, (8, 0), 3)).tensor_parallel == 2
    for count, wished, remedy in ((8, 3, 4), (8, 5, 8), (4, 3, 4), (3, 3, 2), (2, 9, 2)):
        reason = refused(machine(81920, (8, 0), count), Wishes(model="qwen2.5-32b-instruct", tensor_parallel=wished))
        assert ("power of two" in reason.text) == (wished <= count)
        assert f"TENSOR_PARALLEL_SIZE={remedy}," in reason.remedy, reason
    assert "1 equal GPUs" in refused(machine(81920, (8, 0)), Wishes(tensor_parallel=2)).text
    unequal = Hardware(
        nvidia=Nvidia(
            gpus=(
                Gpu(index=0, name="small", memory=12288 * MIB, compute_capability=(8, 6)),
                Gpu(index=1, name="large", memory=24576 * MIB, compute_capability=(8, 6)),
            )
        )
    )
    profile = accepted(unequal)
    assert profile.cards
    assert (profile.tensor_parallel, profile.cards.indices) == (1, (1,))


def test_too_few_of_equal_gpus_make_no_tier_and_are_told() -> None:
    two = machine(12288, (8, 6), 2)
    assert accepted(two).tensor_parallel == 2
    reason = refused(two, Wishes(engine="vllm", tensor_parallel=1))
    assert reason.code == "tensor_parallel"
    assert "TENSOR_PARALLEL_SIZE=1 this machine makes no tier" in reason.text
    assert "TENSOR_PARALLEL_SIZE=2" in reason.remedy


def test_quantised_layers_can_not_be_cut_into_any_number_of_parts() -> None:
    eight = machine(81559, (9, 0), 8)
    assert accepted(eight, Wishes(model="qwen2.5-14b-instruct")).tensor_parallel == 4
    reason = refused(eight, Wishes(model="qwen2.5-14b-instruct", tensor_parallel=8))
    assert "4 parts" in reason.text


def test_memory_adds_up_over_equal_gpus() -> None:
    """Two cards of 24 GB make the 40 GB tier, each with its own overhead."""
    profile = accepted(machine(24564, (8, 9), 2))
    assert (profile.tier, profile.model, profile.tensor_parallel) == ("a100_40gb", "qwen2.5-32b-instruct", 2)
    assert profile.fit
    share = int(24564 * MIB * 0.9) - 3 * GIB // 2
    assert profile.fit.left == 2 * share - 19_300_000_000
    assert accepted(machine(24564, (8, 9), 2), Wishes(tensor_parallel=1)).tier == "a10_24gb"


def test_gated_models_need_a_token_before_anything_else() -> None:
    """Before the memory, too: 70B on 80 GB at 50 % does not fit either."""
    wishes = Wishes(model="llama3.1-70b-instruct", utilisation=0.5)
    reason = refused(machine(81920, (8, 0)), wishes)
    assert reason.code == "gated"
    assert "https://huggingface.co/meta-llama/Llama-3.1-70B-Instruct" in reason.remedy
    assert "HF_TOKEN" in reason.remedy
    assert refused(machine(81920, (8, 0)), msgspec.structs.replace(wishes, token=True)).code == "memory"


def test_gated_weights_that_are_here_need_no_token() -> None:
    pulled = {"hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4": "a" * 40}
    profile = accepted(machine(81920, (8, 0)), Wishes(model="llama3.1-70b-instruct", revisions=pulled))
    assert profile.weights
    assert profile.weights.revision == "a" * 40
    assert profile.context == 65536


def test_no_default_is_gated() -> None:
    for mib, capability, _ in SHOWN_BY_NVIDIA_SMI:
        for prefer in ("speed", "quality"):
            assert not accepted(machine(mib, capability), Wishes(prefer=prefer)).gated


@pytest.mark.parametrize(("capability", "told"), [((8, 6), True), ((8, 0), True), ((8, 9), False), ((9, 0), False)])
def test_fp8_on_old_cards_is_weight_only_and_told(capability: tuple[int, int], *, told: bool) -> None:
    profile = accepted(machine(40960, capability), Wishes(model="mistral-nemo-instruct-2407"))
    assert profile.weights
    assert profile.weights.quant == "fp8_vllm"
    assert ("fp8_weight_only" in {note.code for note in profile.notes}) == told


@pytest.mark.parametrize(
    ("mib", "capability", "prefer", "model"),
    [
        (16303, (12, 0), "speed", "qwen2.5-7b-instruct"),
        (23028, (8, 6), "speed", "qwen2.5-14b-instruct"),
        (23028, (8, 6), "quality", "qwen2.5-14b-instruct"),
        (40960, (8, 0), "quality", "qwen2.5-32b-instruct"),
        (81920, (8, 0), "speed", "qwen2.5-32b-instruct"),
        (81920, (8, 0), "quality", "qwen2.5-72b-instruct-awq"),
        (81559, (9, 0), "quality", "qwen2.5-72b-instruct-awq"),
    ],
)
def test_the_default_is_of_the_qwen_family(mib: int, capability: tuple[int, int], prefer: str, model: str) -> None:
    wishes = msgspec.convert({"prefer": prefer}, Wishes)
    assert accepted(machine(mib, capability), wishes).model == model


def test_a_model_of_a_higher_tier_is_refused_in_bytes() -> None:
    reason = refused(machine(23028), Wishes(model="qwen2.5-32b-instruct"))
    assert reason.code == "tier"
    for part in ("40000000000 bytes", "24146608128 bytes", "8.0", "8.6"):
        assert part in reason.text


def test_a_mig_slice_is_no_card() -> None:
    gpu = Gpu(index=0, name="a card", memory=81920 * MIB, compute_capability=(8, 0), mig=True)
    reason = refused(Hardware(nvidia=Nvidia(gpus=(gpu,))), Wishes(engine="vllm"))
    assert reason.code == "mig"
    assert "nvidia-smi -i 0 -mig 0" in reason.remedy


def test_an_unknown_model_is_refused_with_those_that_are_known() -> None:
    for engine in ("vllm", "ollama", "llamacpp"):
        reason = refused(machine(23028), msgspec.convert({"engine": engine, "model": "gpt-2"}, Wishes))
        assert reason.code == "unknown_model"
        assert "qwen2.5-14b-instruct" in reason.remedy


def test_a_model_is_known_by_all_its_names() -> None:
    for name in ("Qwen/Qwen2.5-14B-Instruct", "qwen2.5:14b-instruct-q4_K_M", "Qwen/Qwen2.5-14B-Instruct-GPTQ-Int4"):
        profile = accepted(machine(23028), Wishes(model=name))
        assert profile.model == "qwen2.5-14b-instruct"
        assert profile.weights
        assert profile.weights.quant == ("gptq_int4" if "GPTQ" in name else "awq_int4")


def test_overhead_grows_with_the_card_and_never_leaves_less() -> None:
    assert gpu_overhead(24 * GIB, 0.9) == 3 * GIB // 2
    assert gpu_overhead(80 * GIB, 0.9) == 5 * GIB // 2
    left = [int(size * GIB // 10 * 0.9) - gpu_overhead(size * GIB // 10, 0.9) for size in range(280, 340)]
    assert left == sorted(left)


def test_ollama_sets_a_whole_context_aside_for_each_answer() -> None:
    profile = accepted(machine(81920, (8, 0)), Wishes(engine="ollama"))
    assert profile.fit
    assert (profile.context, profile.parallel) == (32768, 6)
    assert profile.fit.needed(profile.context * profile.parallel) <= 81920 * MIB * 0.9
    assert profile.served_name == "qwen2.5:32b-instruct-q4_K_M"


def test_llama_cpp_serves_a_model_of_the_list_from_ram() -> None:
    wishes = Wishes(engine="llamacpp", model="qwen2.5-7b-instruct")
    profile = accepted(machine(ram_gib=16), wishes)
    assert (profile.purpose, profile.context) == ("earning", 32768)
    assert refused(machine(ram_gib=8), wishes).code == "memory"
    assert refused(machine(), Wishes(engine="llamacpp", model="qwen2.5-72b-instruct-awq")).code == "weights_missing"
    own = accepted(machine(), Wishes(engine="llamacpp", model="any name", model_path="/a/b.gguf"))
    assert (own.purpose, own.model) == ("development", "any name")
