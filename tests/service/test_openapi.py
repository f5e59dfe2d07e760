"""The OpenAPI description: what it says is so, and nothing that it allows breaks the service."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from service_driver import running

from platonic_store import questions


def test_every_question_and_its_parameters_are_described(client):
    described = client.get("/openapi.json").json()
    for name in questions.names():
        question = questions.get(name)
        operation = described["paths"][f"/api/{name}"]["get"]
        names = [one["name"] for one in operation["parameters"]]
        assert names == [*(one.name for one in question.parameters), "limit", "cursor"]
        assert question.summary == operation["summary"]
        takes_structure = any(one.is_structure for one in question.parameters)
        assert ("post" in described["paths"][f"/api/{name}"]) == takes_structure
    assert described["components"]["schemas"]["Problem"]["required"]


# Requests that are what they say of themselves, and some that are not, to all but slow questions.
SLOW = {"align", "bias", "stitch", "stitch_head", "transport"}


@pytest.fixture(scope="module")
def quick(prototypes):
    with running(prototypes, sql=True, seconds=5) as client:
        yield client


@pytest.fixture(scope="module")
def schema(quick):
    described = quick.get("/openapi.json").json()
    described["paths"] = {
        path: methods
        for path, methods in described["paths"].items()
        if path.removeprefix("/api/") not in SLOW and "optimade" not in path
    }
    return schemathesis.openapi.from_dict(described)


def test_no_request_breaks_the_service(schema, quick):
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    cases = st.one_of(
        *(
            operation.ok().as_strategy(generation_mode=mode)
            for operation in schema.get_all_operations()
            for mode in modes
        )
    )

    @settings(
        max_examples=150,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def asked(case):
        answer = case.call(base_url=quick.url)
        assert answer.status_code < 500 or answer.status_code in (503, 504), answer.text
        if answer.status_code >= 400:
            assert answer.headers["content-type"][0] == "application/problem+json"

    asked()
