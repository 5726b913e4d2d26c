"""The parts that the servers of Buildbucket and Cloud Build share: programs and their outputs, messages, times."""
