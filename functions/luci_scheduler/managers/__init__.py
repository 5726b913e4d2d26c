"""Task managers, one module or package for each task kind."""
