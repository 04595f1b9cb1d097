"""`burnish predict`: judge new images with a bundle, without DVC and without the project."""
