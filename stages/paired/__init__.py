"""Two sets of scores on the same images, compared: paired intervals and DeLong's test. Used by `burnish diff`."""
