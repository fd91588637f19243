"""The pace of starts, granted by Redis or by SQL: one of the two at a time, and one contract for both."""
