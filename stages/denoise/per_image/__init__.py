"""DVT step 1: splits the tokens of one image into content and an artifact that depends on the position."""
