"""Faults, injected into real processes, with counts at the end.

One command per fault; each takes a storage and a seed, and ends with a non-zero
code when a promise is broken:

    bin/py chaos/kill.py --storage zeo --seed 7 --kills 500
    bin/py chaos/kill.py --storage file --brief
"""
