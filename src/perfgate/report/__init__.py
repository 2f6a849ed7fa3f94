"""How is a finished run told? Each module turns the records of :mod:`perfgate.model` into one kind of text."""
