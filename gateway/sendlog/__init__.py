"""The send log: what a record says, and how its bytes are proved later. Pure."""
