"""One module per stage, or per pair of stages: load the inputs, call the stage's function, save the outputs.

Stages are separate modules, so that each stage of dvc.yaml depends on its own module only: a change in how scores are
written must not train anything again.
"""
