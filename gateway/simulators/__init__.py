"""Provider-speaking stand-ins for the demo, for test keys and for the tests.

They run in a process of their own, keep a synced ledger of what reached whom, and know nothing of
the gateway: whatever they find out comes over a socket, as it does for the providers themselves.
"""
