"""Names of cached answers: they can be found by tenant and user, to be removed."""

from hashlib import blake2b


def answers_of_user(tenant_no: int, user_id: str) -> str:
    """What the names of a stored user's answers begin with; "" is nobody in particular."""
    mark = blake2b(user_id.encode(), digest_size=8, salt=str(tenant_no).encode()).hexdigest()
    return f"{answers_of_tenant(tenant_no)}recommend:{mark if user_id else '-'}:"


def answers_of_tenant(tenant_no: int) -> str:
    """What the names of all that is cached for a tenant begin with."""
    return f"penchant:{tenant_no}:"
