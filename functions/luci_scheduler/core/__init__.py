"""What there is and what follows: pure, standard library only."""
