"""The witness: the rule language read a second time, plain and slow, from the same packs and nothing else."""
