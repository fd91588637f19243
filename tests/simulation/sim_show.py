"""`python tests/simulation/sim_show.py SEED [MUTANT]`: what happened in one schedule, and what was wrong with it."""

import sys
from contextlib import nullcontext
from pathlib import Path

if __name__ == "__main__":
    sys.path += [str(folder) for folder in Path(__file__).resolve().parents[1:3]]
    from sim_mutants import sown
    from sim_world import World

    with sown(sys.argv[2]) if len(sys.argv) > 2 else nullcontext():
        seen = World(int(sys.argv[1])).run()
    for at, *what in seen.trace:
        print(f"{at:12.6f}", *what)  # noqa: T201
    print(*seen.wrong or ["nothing was wrong"], sep="\n")  # noqa: T201
