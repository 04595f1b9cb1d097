"""What people see: the terminal, tables, plots, overlays."""
