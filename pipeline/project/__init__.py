"""The project: paths, parameters, git, exit codes, faults."""
