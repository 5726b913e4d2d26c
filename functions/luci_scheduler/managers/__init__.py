"""Task kinds and their managers, one module or package for each kind."""
