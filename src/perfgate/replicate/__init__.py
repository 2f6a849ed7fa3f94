"""How is a case run again in a fresh process that shares nothing with this one?

``command`` builds the child's command line, ``process`` starts it and survives its death, ``child`` is the plugin
inside it, ``wire`` is what they say to each other, ``isolate`` runs a marked case that way from the start.
"""
