"""What protects provider accounts and is tuned by ops: quotas, and what they are counted by. Pure."""
