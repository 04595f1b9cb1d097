"""`burnish diff`: what changed between two revisions, how sure that is, and whether to ship.

`sides.read_side` reads a revision or the workspace, `diff.compare` compares two of them, `gate.judge` holds the result
against limits; `terminal`, `markdown` and `page` show it.
"""
