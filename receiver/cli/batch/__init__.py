"""`receiver batch`: a file of lines becomes tasks, once each, however often it is run."""
