"""Where images come from: one module per source, all reached through `registry.SOURCES`."""
