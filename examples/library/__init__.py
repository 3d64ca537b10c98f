"""The Python library as an index that can be searched: an example.

One job reads one source file and writes what it says into a full-text index in
the same database; a cron job looks for files that are new, changed or gone; a
last job reports totals.  README.txt tells how it is made.
"""
