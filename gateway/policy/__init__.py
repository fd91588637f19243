"""The policy engine: rules are data, decisions are pure. It reads packaged TOML, no clock and no log."""
