"""Hostile documents. None of them is a challenge; every one must be a clear 4xx, quickly (threats 13, 14)."""

import json
import random
from typing import Final

from tests.miner.canary import PROMPT

FITS: Final = 1_500_000
"""The most plaintext bytes of a challenge whose token still fits the body limit."""


def corpus() -> dict[str, bytes]:
    """Name and bytes of each document."""
    deep = 100_000
    message = b'{"messages": [{"role": "user", "content": %b}]}'
    documents: dict[str, bytes] = {
        "empty": b"",
        "blank": b" \n\t ",
        "nul": b"\x00",
        "not JSON": f"{PROMPT} is not JSON".encode(),
        "invalid UTF-8": b'{"prompt": "\xff\xfe\xfa"}',
        "overlong UTF-8": b'{"prompt": "\xc0\xaf"}',
        "UTF-8 cut short": b'{"prompt": "\xe9\x9b"}',
        "surrogate in UTF-8": b'{"prompt": "\xed\xa0\x80"}',
        "escaped lone surrogate": b'{"prompt": "\\ud800"}',
        "escaped lone low surrogate": message % b'"\\udc00 x"',
        "surrogate as a key": b'{"\\ud800": 1, "prompt": "\\ud800"}',
        "surrogate in a role": b'{"messages": [{"role": "\\udfff", "content": "x"}]}',
        "UTF-16": '{"prompt": "x"}'.encode("utf-16"),
        "byte order mark": b'\xef\xbb\xbf{"prompt": 5}',
        "deep lists": b"[" * deep,
        "deep lists closed": b"[" * deep + b"]" * deep,
        "deep and closed, as large as it may be": b"[" * (FITS // 2 - 50) + b"]" * (FITS // 2 - 50),
        "deep objects, as large as they may be": b'{"a":' * (FITS // 6 - 50) + b"1" + b"}" * (FITS // 6 - 50),
        "deep objects": b'{"a":' * deep,
        "deep in messages": message % (b"[" * deep + b"]" * deep),
        "deep in an unknown field": b'{"prompt": 1, "x": ' + b"[" * deep + b"]" * deep + b"}",
        "deep in metadata": b'{"prompt": 1, "metadata": ' + b'{"a":' * deep + b"1" + b"}" * deep + b"}",
        "deep in tools": b'{"prompt": "x", "tools": [' + b'{"a":' * deep + b"1" + b"}" * deep + b"]}",
        "just over the depth cap": message % (b"[" * 70 + b"]" * 70),
        "brackets in a string": b'{"prompt": 1, "x": "' + b"[" * deep + b'"}',
        "NaN": b'{"prompt": "x", "temperature": NaN}',
        "Infinity": b'{"prompt": "x", "top_p": Infinity}',
        "-Infinity": b'{"prompt": "x", "max_tokens": -Infinity}',
        "5000-digit int": b'{"prompt": "x", "max_tokens": ' + b"9" * 5000 + b"}",
        "a million digits": b'{"prompt": "x", "max_tokens": ' + b"9" * 1_000_000 + b"}",
        "a long float": b'{"prompt": "x", "temperature": 0.' + b"1" * 200_000 + b'e"}',
        "an exponent": b'{"prompt": "x", "temperature": 1e999999999}',
        "duplicate keys": b'{"prompt": 1,' * 1 + b'"prompt": 2, "prompt": [3]}',
        "300 000 keys": b"{" + b",".join(b'"%x":' % at + b"0" for at in range(300_000)) + b"}",
        "100 000 keys": b"{" + b",".join(b'"k%d":0' % at for at in range(100_000)) + b"}",
        "100 000 messages of wrong type": b'{"messages": [' + b",".join([b"0"] * 100_000) + b"]}",
        "list": b"[]",
        "list of challenges": b'[{"prompt": "x"}]',
        "string": b'"prompt"',
        "number": b"7",
        "null": b"null",
        "true": b"true",
        "neither": b"{}",
        "both null": b'{"messages": null, "prompt": null}',
        "messages a string": b'{"messages": "hello"}',
        "messages an object": b'{"messages": {"role": "user", "content": "x"}}',
        "messages of strings": b'{"messages": ["hello"]}',
        "messages of lists": b'{"messages": [["user", "hello"]]}',
        "no messages": b'{"messages": []}',
        "no role": b'{"messages": [{"content": "x"}]}',
        "role a number": b'{"messages": [{"role": 1, "content": "x"}]}',
        "unknown role": b'{"messages": [{"role": "root", "content": "x"}]}',
        "content a number": message % b"5",
        "content an object": message % b'{"text": "x"}',
        "content a list of numbers": message % b"[1, 2]",
        "prompt a number": b'{"prompt": 5}',
        "prompt a list": b'{"prompt": ["x"]}',
        "max_tokens a string": b'{"prompt": "x", "max_tokens": "many"}',
        "max_tokens an object": b'{"prompt": "x", "max_tokens": {}}',
        "temperature a list": b'{"prompt": "x", "temperature": [0.7]}',
        "tools a string": b'{"prompt": "x", "tools": "all"}',
        "tools of numbers": b'{"prompt": "x", "tools": [1]}',
        "correlation_id an object": b'{"prompt": "x", "correlation_id": {"a": 1}}',
        "metadata a list": b'{"prompt": "x", "metadata": [1]}',
        "timing_data a string": b'{"prompt": "x", "metadata": {"timing_data": "now"}}',
        "stages an int": b'{"prompt": "x", "metadata": {"timing_data": {"stages": 1}}}',
        "trailing garbage": b'{"prompt": "x"} and more',
        "two documents": b'{"prompt": "x"}{"prompt": "y"}',
        "cut in a key": b'{"mess',
        "cut in a string": b'{"messages": [{"role": "user", "content": "hel',
        "cut in an escape": b'{"prompt": "\\u12',
        "a bad escape": b'{"prompt": "\\x41"}',
        "raw control characters": b'{"prompt": "a\x00\x01\n"}',
        "single quotes": b"{'prompt': 'x'}",
        "comments": b'{"prompt": "x" /* y */}',
        "trailing comma": b'{"prompt": "x",}',
        "binary": random.Random(78).randbytes(50_000),
        "as large as it may be": b'{"prompt": [' + b"1," * (FITS // 2 - 50) + b"1]}",
    }
    return documents


def mutations(seed: int, count: int) -> list[bytes]:
    """Valid challenges with a few bytes wrong; some stay valid."""
    chance = random.Random(seed)
    good = json.dumps(
        {
            "messages": [{"role": "user", "content": "What? \ud83c\udf89 \\"}, {"role": "assistant", "content": None}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "tool_choice": "auto",
            "max_tokens": 12288,
            "temperature": 0.7,
            "top_p": 0.95,
            "correlation_id": "c",
            "metadata": {"timing_data": {"correlation_id": "c", "request_start_timestamp": 1.5, "stages": []}},
        }
    ).encode()
    pieces = [
        b"null",
        b"[]",
        b"{}",
        b'"',
        b"\\ud800",
        b"1e999",
        b"-0",
        b"\xff",
        b"\x00",
        b",",
        b":",
        b"[[[[",
        b"9" * 40,
    ]
    found: list[bytes] = []
    for _ in range(count):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data))
            action = chance.randrange(4)
            if action == 0:
                data[at] = chance.randrange(256)
            elif action == 1:
                del data[at : at + chance.randint(1, 12)]
            elif action == 2:
                data[at:at] = chance.choice(pieces)
            else:
                other = chance.randrange(len(data))
                data[at:at] = data[other : other + chance.randint(1, 30)]
        found.append(bytes(data))
    return found


BIG: Final = "9" * 19
EXTREMES: Final[list[dict[str, object]]] = [
    *(
        {"max_tokens": value}
        for value in (0, -1, 1, 2, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63), None, 1.0)
    ),
    *({"temperature": value} for value in (-1, -0.0, 0, 1e-300, 1.99, 2, 2.01, 100, 1e308, -1e308, None, int(BIG))),
    *({"top_p": value} for value in (-1, 0, 1e-300, 1, 1.000001, 5, 1e308, None)),
    {"model": "x" * 100_000},
    {"model": ""},
    {"correlation_id": "c" * 100_000},
    {"correlation_id": ""},
    {"tools": [], "tool_choice": "required"},
    {"tools": [], "tool_choice": "auto"},
    {"tools": None, "tool_choice": {"type": "function", "function": {"name": "absent"}}},
    {"tool_choice": "sometimes"},
    {"messages": [{"role": "user", "content": "x"}] * 5000},
    {"messages": [{"role": "user", "content": ""}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "p"}] * 5000}]},
    {"messages": [{"role": "user", "content": "\x00\x01\x02 \u202e \ufffe"}]},
    {"messages": [{"role": "user", "content": "word " * 250_000}]},
    {"max_tokens": 2**40, "temperature": 50, "top_p": 0},
    {"metadata": {"timing_data": {"request_start_timestamp": -1e300, "stages": [{}] * 2000}}},
]
"""Parameters at and over the edge."""
