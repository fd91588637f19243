"""Drawn TOML: a table and a layout of it, written by a hand that notes where it puts each part."""

import json

from hypothesis import strategies as st

BARE = st.sampled_from(["a", "b", "id", "rule", "days", "8", "x-y", "z_0"])
ODD = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=4)
KEYS = BARE | ODD
SCALARS = (
    st.integers(-5, 5) | st.booleans() | ODD | st.sampled_from(['"""', "'''", "a#b", "]},=", "a\nb", "\\"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
BLOCKS = st.recursive(
    st.dictionaries(KEYS, VALUES, max_size=3),
    lambda inner: st.dictionaries(KEYS, VALUES | inner | st.lists(inner, min_size=1, max_size=2), max_size=3),
    max_leaves=4,
)


def step(pointer, key):
    return f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"


class Hand:
    """Writes a table in a layout that `choose(n)` picks; `places` has the line and column of each part."""

    def __init__(self, choose):
        self.choose = choose
        self.text = ""
        self.places = {"": (1, 1)}

    def note(self, pointer):
        before = self.text.rpartition("\n")[2]
        self.places.setdefault(pointer, (self.text.count("\n") + 1, len(before) + 1))

    def write(self, *words):
        self.text += self.pick(words)

    def pick(self, words):
        return words[self.choose(len(words))]

    def gap(self):
        self.write("", " ", "\t ")

    def blank(self):
        self.write("", "\n", " \n\n\t", "# ] } \" ''' = [[rule]]\n", "  # day\n")

    def key(self, key):
        forms = [json.dumps(key, ensure_ascii=False)]
        forms += [key] if key.isascii() and key.replace("-", "").replace("_", "").isalnum() else []
        forms += [f"'{key}'"] if "'" not in key else []
        self.write(*forms)

    def pair(self, table, key, value):
        """`key = value`, or `key.inner = value` where the value is a table of one key."""
        at = step(table, key)
        self.note(at)
        self.key(key)
        self.gap()
        if isinstance(value, dict) and len(value) == 1 and self.choose(2):
            self.text += "."
            self.gap()
            self.pair(at, *next(iter(value.items())))
            return
        self.text += "="
        self.gap()
        self.value(at, value)

    def value(self, at, value):
        if isinstance(value, dict):
            self.inline(at, value)
        elif isinstance(value, list):
            self.array(at, value)
        elif isinstance(value, str):
            self.string(value)
        else:
            self.text += json.dumps(value)

    def string(self, value):
        plain = "'" not in value and "\n" not in value
        whole = json.dumps(value, ensure_ascii=False)
        forms = [whole, f'"""{whole[1:-1]}"""', f'"""\n{whole[1:-1]}"""']
        forms += [f"'{value}'", f"'''{value}'''"] if plain else []
        self.write(*forms)

    def array(self, at, value):
        self.text += "["
        self.blank()
        for place, one in enumerate(value):
            self.note(step(at, place))
            self.value(step(at, place), one)
            self.blank()
            if place < len(value) - 1 or self.choose(2):
                self.text += ","
            self.blank()
        self.text += "]"

    def inline(self, at, value):
        self.text += "{"
        self.gap()
        for place, (key, one) in enumerate(value.items()):
            self.pair(at, key, one)
            self.text += "," if place < len(value) - 1 else ""
            self.gap()
        self.text += "}"

    def table(self, at, path, table):
        """The pairs of a table, then those of its parts that get a header of their own."""
        parts = {key: value for key, value in table.items() if self.is_block(value) and self.choose(3)}
        for key, value in table.items():
            if key not in parts:
                self.pair(at, key, value)
                self.write("\n", " \n", "\t# end\n\n")
        for key, value in parts.items():
            several = isinstance(value, list)
            for place, one in enumerate(value if several else [value]):
                self.header(at, [*path, key], several=several)
                inner = step(step(at, key), place) if several else step(at, key)
                self.table(inner, [*path, key], one)

    @staticmethod
    def is_block(value):
        return isinstance(value, dict) or (
            isinstance(value, list) and value != [] and all(isinstance(one, dict) for one in value)
        )

    def header(self, at, path, *, several):
        self.write("", "\n", "# a table\n", "  ")
        self.note(step(at, path[-1]))
        if several:
            taken = sum(1 for found in self.places if found.rpartition("/")[0] == step(at, path[-1]))
            self.note(step(step(at, path[-1]), taken))
        self.text += "[[" if several else "["
        for place, key in enumerate(path):
            self.text += "." if place else ""
            self.gap()
            self.key(key)
            self.gap()
        self.text += "]]" if several else "]"
        self.write("\n", "  # header\n")
