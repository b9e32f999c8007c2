"""Each test has a stage of its own, whose processes it starts and kills."""

from tests.end_to_end.conftest import own_plugin

__all__ = ["own_plugin"]
