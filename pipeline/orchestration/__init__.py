"""Runs the stages of dvc.yaml: graph, flow, stage processes, server, locks; knows DVC's API and Prefect."""
