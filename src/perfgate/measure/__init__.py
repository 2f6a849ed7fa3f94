"""How long does a call take, how much memory does it need, and what was the machine doing meanwhile?"""
