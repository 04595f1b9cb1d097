"""One module a stage, or a pair of stages: load the inputs, call the stage's function, save the outputs.

Stages are separate modules, not one file, so that each can be a dependency of its own stage alone: a change in how
scores are written must not train anything again.
"""
