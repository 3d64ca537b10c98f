"""Several worker processes in one thread, with faults, all from a seed.

    world     a scheduler, a clock, and what stands in for threading and time
    wire      a storage server, and each process's client of it
    oracle    what must be so after each commit, told by the stored records
    cast      tasks, and the users who add and steer jobs
    play      one seed from its beginning to its end
"""
