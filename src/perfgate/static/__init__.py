"""What can be told of a GPU kernel without a GPU? Compiles what launchers would launch, for targets that are not here.

``capture`` runs a real launcher on tensors without memory and compiles what it would have launched; ``nvidia`` and
``amd`` read the compiled code; ``worker`` does both in a process of its own and ``pool`` is how others ask it.
``metrics`` puts the figures under the gate, ``words`` tells them, and ``cases`` wires them into pytest. Only ``worker``
and what it alone imports need torch and triton.
"""
