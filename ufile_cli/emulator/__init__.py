"""A second opinion: a US3 server written from the protocol page alone.

It shares no code with the client. The public names are those of `server` and `faults`; they are
imported from there, since most commands never need them.
"""
