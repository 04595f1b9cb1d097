"""Measures what features tell about labels and positions, before and after denoising. For information only."""
