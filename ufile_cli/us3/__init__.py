"""The wire: everything that is said to a US3 server, and nothing about why."""
