"""`burnish diff`: what changed between two revisions, how certain that is, and whether the gate passes.

`read_side` reads a revision or the workspace, `diff.compare_sides` compares two of them, and `gate.find_breaches`
checks the comparison against limits. `terminal`, `markdown` and `page` display it.
"""
