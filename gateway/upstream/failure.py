"""How an attempt fails: one exception that carries the evidence, and nothing else that could leak."""

import httpx

from gateway.core.evidence import NotSent, NotSentReason, Sent, SentReason


class AttemptFailed(httpx.TransportError):
    """No whole, readable response. `evidence` says whether a byte of the request may have gone out.

    It holds no request, no header and no body, so that printing it cannot show an upstream key.
    """

    def __init__(self, evidence: NotSent | Sent) -> None:
        super().__init__(f"{type(evidence).__name__}({evidence.reason}): {evidence.detail}")
        self.evidence = evidence


def not_sent(reason: NotSentReason, detail: str) -> AttemptFailed:
    """Only where it is certain that no byte of the request was handed to the kernel."""
    return AttemptFailed(NotSent(reason=reason, detail=detail))


def sent(reason: SentReason, detail: str) -> AttemptFailed:
    """Everything from the first write on, and everything in doubt."""
    return AttemptFailed(Sent(reason=reason, detail=detail))
