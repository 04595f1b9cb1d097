"""DVT step 1: splits the tokens of one image into what the image shows and what depends on the position."""
