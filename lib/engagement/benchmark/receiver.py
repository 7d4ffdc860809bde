"""The embedded receiver made as slow as one that is far away."""

from engagement.embedded.site import loopback_session
from engagement.settings import ExternalSettings

ANSWER_SECONDS = 0.05
"""What an answer may take on its way."""
_TIMEOUT_SECONDS = 10.0


def slow_receiver(settings: ExternalSettings) -> None:
    """Let each answer take so much longer, from now on."""
    with loopback_session() as session:
        answer = session.put(
            f"{settings.url.removesuffix('/events')}/faults",
            json={"faults": [{"delay_seconds": ANSWER_SECONDS}]},
            headers={"authorization": f"Bearer {settings.token.get_secret_value()}"},
            timeout=_TIMEOUT_SECONDS,
        )
        answer.raise_for_status()
