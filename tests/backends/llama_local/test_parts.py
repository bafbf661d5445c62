"""The engine's small parts, each alone."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.backends.llama_local.chat_template import ChatTemplate, read_messages
from app.backends.llama_local.pace import Pace
from app.backends.llama_local.text_stream import TextStream
from app.backends.llama_local.threads import MachineLoad, ThreadGovernor, physical_cores
from app.errors import BackendRejected


def streamed(pieces: list[bytes], stop: tuple[str, ...] = ()) -> list[str]:
    stream = TextStream(stop)
    texts: list[str] = []
    for piece in pieces:
        texts.append(stream.push(piece))
        if stream.stopped:
            return texts
    return [*texts, stream.flush()]


def test_characters_over_several_tokens_come_whole() -> None:
    assert streamed([b"a\xf0\x9f", b"\x98", b"\x80b"]) == ["a", "", "\U0001f600b", ""]


def test_half_a_character_at_the_end_is_dropped() -> None:
    assert "".join(streamed([b"end\xf0\x9f"])) == "end"


def test_bytes_that_are_no_text_are_marked() -> None:
    assert "".join(streamed([b"a\xffb"])) == "a\ufffdb"


def test_what_may_become_a_stop_string_is_held_back() -> None:
    assert streamed([b"ab", b"EN", b"D", b"cd"], ("END",)) == ["ab", "", ""]
    assert streamed([b"ab", b"EN", b"TRY"], ("END",)) == ["ab", "", "ENTRY", ""]
    assert streamed([b"ab", b"EN"], ("END",)) == ["ab", "", "EN"]


@given(
    st.text("ab\u4f60\U0001f600", max_size=30),
    st.lists(st.text("ab\u4f60", min_size=1, max_size=4), max_size=3),
    st.data(),
)
def test_any_cut_gives_the_text_up_to_the_first_stop(text: str, stops: list[str], data: st.DataObject) -> None:
    """However the bytes are cut into tokens, what is shown is the text up to the first stop string that is complete."""
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    shown = "".join(streamed(pieces, tuple(stops)))
    starts = [at for stop in stops if (at := text.find(stop)) >= 0]
    if not starts:
        assert shown == text
    else:
        assert text.startswith(shown)
        assert not any(stop in shown for stop in stops)
        assert len(shown) >= min(starts)


class Load(MachineLoad):
    """Others, as the test wants them."""

    def __init__(self, cpus: int) -> None:
        self.cpus = cpus
        self.seconds = 0.0
        self.running = 0

    def seconds_of_others(self) -> float:
        return self.seconds

    def running_others(self) -> int:
        return self.running


def test_threads_make_room_for_others_and_come_back() -> None:
    load = Load(4)
    governor = ThreadGovernor(4, load)
    assert governor.look(0.0) == 4
    load.seconds = 1.0
    assert governor.look(0.1) == 4, "looked again too soon"
    load.seconds = 2.0
    assert governor.look(1.0) == 2
    load.seconds = 12.0
    assert governor.look(2.0) == 1
    assert governor.look(3.0) == 4


def test_a_little_work_of_others_takes_no_thread() -> None:
    load = Load(2)
    governor = ThreadGovernor(2, load)
    governor.look(0.0)
    load.seconds = 0.3
    assert governor.look(1.0) == 2


def test_after_a_rest_what_runs_now_counts() -> None:
    load = Load(2)
    governor = ThreadGovernor(2, load)
    governor.look(0.0)
    load.running = 1
    assert governor.look(100.0) == 1


def test_the_machine_can_be_looked_at() -> None:
    load = MachineLoad()
    before = load.seconds_of_others()
    assert before >= 0
    assert load.running_others() >= 0
    assert 1 <= physical_cores() <= load.cpus


def test_a_step_is_as_long_as_it_should_be() -> None:
    pace = Pace(0.15)
    for _ in range(30):
        pace.observe(reading=100, writing=0, seconds=0.1)
    assert pace.chunk(generating=False) == pytest.approx(150, abs=2)


def test_reading_at_most_doubles_the_time_between_the_tokens_of_others() -> None:
    pace = Pace(0.15)
    for _ in range(30):
        pace.observe(reading=0, writing=7, seconds=0.05)
        pace.observe(reading=100, writing=0, seconds=0.1)
        pace.observe(reading=20, writing=7, seconds=0.05 + 20 * 0.001)
    assert pace.chunk(generating=True) * 0.001 <= 0.05
    assert pace.chunk(generating=True) >= 25
    assert pace.chunk(generating=False) > 100


def test_what_writing_takes_is_seen_again_while_a_prompt_is_read() -> None:
    """A machine that has become slower must not look like a prompt that has become dear."""
    pace = Pace(0.15)
    pace.observe(reading=0, writing=7, seconds=0.05)
    for _ in range(200):
        part = pace.chunk(generating=True)
        pace.observe(reading=part, writing=7, seconds=0.2 + part * 0.004)
    assert 20 <= pace.chunk(generating=True) <= 30


def test_a_prompt_gets_on_however_slow_the_machine() -> None:
    pace = Pace(0.15)
    for _ in range(30):
        pace.observe(reading=16, writing=0, seconds=60.0)
    assert pace.chunk(generating=True) > 0


def messages(*contents: tuple[str, object]) -> bytes:
    return msgspec.json.encode([{"role": role, "content": content} for role, content in contents])


ROLES = "{% for m in messages %}[{{ m['role'] }}:{{ m['content'] }}]{% endfor %}"


def test_unknown_developer_role_speaks_as_system() -> None:
    read = read_messages(messages(("developer", "Be brief."), ("user", "Hi")))
    assert ChatTemplate(ROLES).render(read) == "[system:Be brief.][user:Hi]"
    knowing = ROLES + "{# developer #}"
    assert ChatTemplate(knowing).render(read) == "[developer:Be brief.][user:Hi]"


def test_content_may_be_parts_or_nothing() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    read = read_messages(messages(("user", parts), ("assistant", None)))
    assert ChatTemplate(ROLES).render(read) == "[user:one\ntwo][assistant:]"


def test_a_model_without_template_gets_chatml() -> None:
    rendered = ChatTemplate("").render(read_messages(messages(("user", "Hi"))))
    assert rendered == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "source",
    ["{{ raise_exception('roles must alternate') }}", "{{ messages[5]['role'] }}", "{{ messages[0].content + 1 }}",
     "{{ ''.__class__.__mro__ }}", "{{ 1 // 0 }}"],
)  # fmt: skip
def test_what_a_template_cannot_take_is_refused(source: str) -> None:
    with pytest.raises(BackendRejected, match="can't take these messages"):
        ChatTemplate(source).render(read_messages(messages(("user", "Hi"))))


def test_refusals_quote_the_template_but_never_the_messages() -> None:
    read = read_messages(messages(("user", "my secret")))
    with pytest.raises(BackendRejected, match="roles must alternate"):
        ChatTemplate("{{ raise_exception('roles must alternate') }}").render(read)
    with pytest.raises(BackendRejected) as refused:
        ChatTemplate("{{ raise_exception('bad: ' ~ messages[0].content) }}").render(read)
    assert "secret" not in str(refused.value)


def test_templates_read_what_others_wrote_for_transformers() -> None:
    source = (
        "{% generation %}{{ bos_token }}{{ messages[0] | tojson(indent=none) }}{% endgeneration %}"
        "{{ strftime_now('%Y')[:2] }}"
    )
    rendered = ChatTemplate(source, bos="<s>").render(read_messages(messages(("user", "<\u00e9>"))))
    assert rendered == '<s>{"role": "user", "content": "<\u00e9>"}20'
