"""What every model of a request has in common. Knows no request."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Discriminator


class WireModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class NothingIn(WireModel):
    """Nothing is to be said."""


def exactly_one_of(*names: str) -> Discriminator:
    """Chooses a union's member by the one of these keys that the object has; its tag is the key between angle brackets."""

    def tag(value: Any) -> str | None:
        present = [name for name in names if name in value] if isinstance(value, dict) else []
        return f"<{present[0]}>" if len(present) == 1 else None

    expected = ", ".join(names[:-1]) + " or " + names[-1]
    return Discriminator(
        tag,
        custom_error_type="exactly_one_of",
        custom_error_message=f"expected an object with exactly one of {expected}",
    )
