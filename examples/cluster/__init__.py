"""A cluster on one machine: a database server, a web process, four workers.

    python -m cluster zeo
    python -m cluster postgresql

README.txt tells what it shows.
"""
