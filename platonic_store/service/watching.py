"""How the service is: `/healthz` and `/metrics`."""

import time
from collections.abc import Callable

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from starlette.types import Scope

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Measures:
    """Counts and times of one service. gauges: name → (what it is, its value now)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        labels = ("route", "method", "status")
        self._requests = Counter(
            "platonic_requests", "Requests answered.", labels, registry=self.registry
        )
        self._seconds = Histogram(
            "platonic_request_seconds",
            "Time to an answer.",
            ("route",),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(self)

    def collect(self) -> list[Metric]:
        """The gauges, as prometheus-client asks for them."""
        return [
            GaugeMetricFamily(f"platonic_{name}", text, value=value())
            for name, (text, value) in self.gauges.items()
        ]

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request. Its route is a pattern, or "other": never what a client made up."""
        path = getattr(scope.get("route"), "path", None) or "other"
        known = ("GET", "HEAD", "POST", "OPTIONS")
        method = scope["method"] if scope["method"] in known else "other"
        self._requests.labels(path, method, str(status)).inc()
        self._seconds.labels(path).observe(seconds)


def router(measures: Measures) -> APIRouter:
    """`/healthz` and `/metrics`."""
    routes = APIRouter(tags=["service"])
    began = time.monotonic()

    @routes.get("/healthz", summary="That the service answers.")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok", "seconds": round(time.monotonic() - began)})

    @routes.get("/metrics", summary="Counts and times, for Prometheus.", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(measures.registry), media_type="text/plain; version=0.0.4")

    return routes
