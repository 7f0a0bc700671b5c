"""The queue's scripts on a real store beside a model of them in plain Python; see ``machine`` and ``trials``."""
