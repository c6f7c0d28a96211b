"""Words: the nouns, the rules over them and how they are shown. Pure: no I/O and no clock."""
