"""SlideSparse in serving: do 2:L sparse weights pay in vLLM, from the prompt to the last token?

``plugin`` is what vLLM loads; ``models``, ``workloads`` say what is run, ``process`` runs it in an engine of its own
(``child`` and ``engine`` are that process), ``results`` keeps what came of it, ``report`` shows it, ``campaign`` runs
what is missing. Nothing here imports vLLM or torch, but ``quantization``, ``engine`` and ``child``.
"""
