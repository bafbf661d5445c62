"""The public listener's routes: what validators call (protocol, sections 1 to 4), and the checks of machines."""

from typing import Final, Literal

import msgspec
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from app.clock import Clock
from app.domain.deadline import Deadline
from app.domain.health import Health
from app.domain.reception import Reception, SealedChallenge
from app.errors import NotAllowed, SessionRefused
from app.protocol.rsa_keys import RsaKeyring
from app.protocol.wire import (
    AVAILABILITY_HOTKEY_HEADER,
    AVAILABILITY_PATH,
    CHALLENGE_PATH,
    KEY_EXCHANGE_PATH,
    MINER_HOTKEY_HEADER,
    OCTET_STREAM,
    PUBLIC_KEY_PATH,
    SYMMETRIC_KEY_UUID_HEADER,
    AvailabilityAnswer,
    KeyExchangeAnswer,
    PublicKeyAnswer,
)
from app.transport.api_docs import CHALLENGE_HEADERS, ChallengeBody, KeyExchangeBody, TokenBody, answers
from app.transport.body import BodyLimits, PlainRequest, read_body
from app.transport.caller import Callers
from app.transport.disconnect import while_connected
from app.transport.gate import INFERENCE_PATH
from app.transport.wire_answer import JSON, OCTETS, WireAnswer

_JSON: Final = "application/json"
_SESSION_NAME: Final = SYMMETRIC_KEY_UUID_HEADER.encode()
_KEY_EXCHANGE_BYTES: Final = 16 * 1024


class Liveness(msgspec.Struct, frozen=True):
    """The process runs."""

    status: Literal["alive"] = "alive"


class ReadinessAnswer(msgspec.Struct, frozen=True):
    """Whether challenges are answered now, and if not, why."""

    ready: bool
    reason: str


class AnswerTimes(msgspec.Struct, frozen=True):
    """How long an answer may take, in seconds from the first byte received."""

    soft_stop: float
    hard_cut: float


class PublicRoutes:
    """Builds the handlers over the parts they call. No rule is here: what is refused is refused by those parts."""

    def __init__(
        self,
        *,
        reception: Reception,
        health: Health,
        keyring: RsaKeyring,
        callers: Callers,
        clock: Clock,
        miner_hotkey: str,
        times: AnswerTimes,
        body_seconds: float,
        challenge_bytes: int,
        inference_for_all: bool,
    ) -> None:
        self._reception = reception
        self._health = health
        self._keyring = keyring
        self._callers = callers
        self._clock = clock
        self._signed = (MINER_HOTKEY_HEADER.encode(), miner_hotkey.encode())
        self._encoder = msgspec.json.Encoder()
        self._times = times
        self._key_exchange_limits = BodyLimits(_KEY_EXCHANGE_BYTES, body_seconds)
        self._challenge_limits = BodyLimits(challenge_bytes, body_seconds)
        self._inference_for_all = inference_for_all

    def handlers(self) -> list[HTTPRouteHandler]:
        """All routes of the public listener but the API's pages."""
        return [*self._checks(), *self._handshake(), *self._challenge()]

    def busiest(self) -> list[HTTPRouteHandler]:
        """The routes that take the request alone and give a `WireAnswer`: handshake and challenge."""
        return [handler for handler in self.handlers() if handler.paths & {KEY_EXCHANGE_PATH, CHALLENGE_PATH}]

    def _deadline(self) -> Deadline:
        return Deadline.after(
            self._clock.monotonic(),
            soft_stop_seconds=self._times.soft_stop,
            hard_cut_seconds=self._times.hard_cut,
        )

    def _checks(self) -> list[HTTPRouteHandler]:
        @get(AVAILABILITY_PATH, responses=answers(429), summary="May challenges be sent?")
        async def availability() -> Response[AvailabilityAnswer]:
            readiness = self._health.readiness()
            answer = AvailabilityAnswer(readiness.ready, readiness.told_to_strangers() or None)
            return WireAnswer(self._encoder.encode(answer), JSON)

        @get("/livez", responses=answers(429), summary="Does the process run?")
        async def livez() -> Response[Liveness]:
            return Response(Liveness())

        @get("/readyz", responses=answers(429, 503), summary="Are challenges answered?")
        async def readyz() -> Response[ReadinessAnswer]:
            readiness = self._health.readiness()
            return Response(
                ReadinessAnswer(readiness.ready, readiness.told_to_strangers()),
                status_code=200 if readiness.ready else 503,
            )

        return [availability, livez, readyz]

    def _handshake(self) -> list[HTTPRouteHandler]:
        @get(PUBLIC_KEY_PATH, responses=answers(429), summary="The key to encrypt a session's key with")
        async def public_key() -> Response[PublicKeyAnswer]:
            return Response(PublicKeyAnswer(public_key=self._keyring.public_pem))

        @post(
            KEY_EXCHANGE_PATH,
            status_code=200,
            responses=answers(400, 403, 408, 413, 415, 422, 429, 503),
            operation_class=KeyExchangeBody,
            summary="Agree on a session",
        )
        async def key_exchange(request: PlainRequest) -> Response[KeyExchangeAnswer]:
            body = await read_body(request, self._key_exchange_limits)
            self._reception.shake_hands(body, self._callers.address(request.scope))
            return WireAnswer(self._encoder.encode(KeyExchangeAnswer()), JSON)

        return [public_key, key_exchange]

    def _challenge(self) -> list[HTTPRouteHandler]:
        @post(
            CHALLENGE_PATH,
            status_code=200,
            media_type=OCTET_STREAM,
            responses=answers(401, 403, 408, 409, 413, 415, 422, 429, 503),
            operation_class=TokenBody,
            summary="An encrypted challenge; the answer is encrypted with the same session",
        )
        async def challenge(request: PlainRequest) -> Response[bytes]:
            deadline = self._deadline()
            hotkey, session = (request.headers.get(name) for name in CHALLENGE_HEADERS)
            # Strangers could fill the memory with bodies that nobody will open (threat 10).
            expected = self._reception.expects(hotkey, session)
            token = await read_body(request, self._challenge_limits, keep=expected)
            if hotkey is None or session is None:
                raise SessionRefused(f"shake hands first, then send {' and '.join(CHALLENGE_HEADERS)}")
            sealed = SealedChallenge(hotkey, session, token)
            answer = await while_connected(request, self._reception.challenge(sealed, deadline))
            return WireAnswer(answer, OCTETS, ((_SESSION_NAME, session.encode("latin-1")), self._signed))

        @post(
            INFERENCE_PATH,
            status_code=200,
            media_type=_JSON,
            responses=answers(200, 403, 408, 413, 415, 422, 429, 503),
            operation_class=ChallengeBody,
            deprecated=True,
            summary="A challenge in plaintext, from this machine only unless enabled",
        )
        async def inference(request: PlainRequest) -> Response[bytes]:
            deadline = self._deadline()
            if not self._inference_for_all and not self._callers.is_local(request.scope):
                raise NotAllowed("/inference answers this machine only: use /fiber/challenge")
            hotkey = request.headers.get(AVAILABILITY_HOTKEY_HEADER, "")
            expected = self._reception.expects_plain(hotkey)
            body = await read_body(request, self._challenge_limits, keep=expected)
            answer = await while_connected(request, self._reception.plain(body, hotkey, deadline))
            return WireAnswer(answer, JSON)

        return [challenge, inference]
