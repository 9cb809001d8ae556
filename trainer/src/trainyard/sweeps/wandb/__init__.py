"""Sweeps that W&B's server leads: it proposes the parameters, `wandb agent` fetches them, and we see to it that all ends well.

worker.py   what `trainyard sweep run` does
server.py   what is asked of the server: who are we, a new sweep, how is it?
meeting.py  which sweep at the server is this one
watch.py    looking at it while the agent works
agent.py    `wandb agent`, started, told, and ended with all that it started
attempts.py what the worker and its trials tell each other, as files
trial.py    what the agent starts for a trial
"""
