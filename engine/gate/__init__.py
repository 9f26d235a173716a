"""How far a gate can be trusted: its bounds and its error, measured on images of known truth."""
