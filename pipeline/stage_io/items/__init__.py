"""What is computed per image, and the key under which the item cache stores it."""
