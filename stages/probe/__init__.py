"""What features tell of labels and of positions, before and after denoising. For information only."""
