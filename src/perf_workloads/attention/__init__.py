"""How do softmax attention, linear attention and the gated delta rule compare in one decoder?"""
