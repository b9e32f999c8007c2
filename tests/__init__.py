"""The suite; a package, so that tests/model cannot shadow model."""
