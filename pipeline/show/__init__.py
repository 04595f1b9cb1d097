"""Everything that people look at: the terminal, tables, plots, overlays."""
