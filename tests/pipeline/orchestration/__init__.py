"""Tests of graph, runs, processes, doctor and the command line, on a toy project."""
