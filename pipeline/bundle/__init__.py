"""The bundle, one folder with all that predictions on new images need; and the champion, the bundle in use."""
