"""The bundle: what judging a new image needs, in one folder; and the champion, the bundle that serves."""
