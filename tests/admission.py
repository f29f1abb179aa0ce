"""What a ValidatingAdmissionPolicy says of a request, its expressions evaluated by the reference implementation of CEL.

As the API server goes about it (staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/validating of Kubernetes
1.36): the conditions say whether the policy is asked at all; a variable sees those before it; every validation that
does not hold is a refusal, in its own words; and an expression that fails is one too, by `failurePolicy: Fail`. The
same policies, objects and answers were tried against a real API server, by hand.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from cel_expr_python import cel  # type: ignore[import-untyped]

_NAMES = ("object", "oldObject", "request", "namespaceObject", "variables")
_ENVIRONMENT = cel.NewEnv(variables=dict.fromkeys(_NAMES, cel.Type.DYN))

Thing = dict[str, Any]


def refusals(
    policy: Thing, user: str, thing: Thing, before: Thing | None = None, labels: dict[str, str] | None = None
) -> list[str]:
    """What is said against `user` making `thing`, or changing `before` into it, in a namespace with these labels."""
    spec = policy["spec"]
    given: Thing = {
        "object": thing,
        "oldObject": before,
        "request": {"userInfo": {"username": user}},
        "namespaceObject": {"metadata": {"labels": labels or {}}},
        "variables": {},
    }
    if not all(_value(entry["expression"], given) for entry in spec["matchConditions"]):
        return []
    for variable in spec["variables"]:
        given["variables"][variable["name"]] = _value(variable["expression"], given)
    return [_said(entry, given) for entry in spec["validations"] if not _holds(entry["expression"], given)]


def _holds(expression: str, given: Thing) -> bool:
    try:
        return bool(_value(expression, given))
    except ValueError:
        return False


def _value(expression: str, given: Thing) -> Any:
    found = _compiled(expression).eval(data=given)
    if found.type() == cel.Type.ERROR:
        raise ValueError(f"{expression}: {found.value()}")
    return found.plain_value()


@cache
def _compiled(expression: str) -> Any:
    return _ENVIRONMENT.compile(expression)


def _said(validation: Thing, given: Thing) -> str:
    if "messageExpression" in validation:
        return str(_value(validation["messageExpression"], given))
    return str(validation["message"])
