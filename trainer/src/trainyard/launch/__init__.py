"""`trainyard launch`: the processes of one node that train together, started and seen to a truthful end. Imports no torch."""
