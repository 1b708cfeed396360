"""How long one engine takes: measured samples (`profile`), fitted (`fit`) into times (`times`)."""
