"""A service of OpenAI's form on loopback whose answers the test writes."""

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "language"))


def service(answer: Callable[[str], str], reason: str = "stop"):
    """A running service; what it says is ``answer`` of all messages, one below the other."""
    from faulty import FaultyServer

    def well(path: str, body: dict) -> dict:
        asked = "\n".join(message["content"] for message in body["messages"])
        message = {"role": "assistant", "content": answer(asked)}
        choice = {"index": 0, "finish_reason": reason, "message": message}
        return {
            "choices": [choice],
            "usage": {"prompt_tokens": 20, "completion_tokens": 5},
        }

    return FaultyServer(["well"], well)


def spec(running, cache: bool = False) -> dict:
    """What opens it as a language model."""
    return {"model": f"{running.url}#scripted", "cache": cache}
