"""The gateway's metrics as numbers."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from tests.accept.world import World

Series = tuple[str, frozenset[tuple[str, str]]]


def series(world: World) -> dict[Series, float]:
    """Every series of the admin listener's `/metrics`, by name and labels."""
    text = world.admin("GET", "/metrics", token="").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(found: Mapping[Series, float], name: str, **labels: str) -> float:
    """The sum over every series of that name with (at least) those labels."""
    return sum(value for (known, of), value in found.items() if known == name and set(labels.items()) <= of)
