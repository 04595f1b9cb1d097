"""Where images come from: one module a source, all behind `registry.SOURCES`."""
