"""`burnish run`: runs the stages of dvc.yaml, each as a process, in an order that DVC gives.

The graph comes from DVC (`graph`), `run_state` keeps the state of one run, Prefect submits the stages (`flow`), and
`processes` runs each as `dvc repro --single-item`. `server` finds or starts the project's Prefect server.
"""
