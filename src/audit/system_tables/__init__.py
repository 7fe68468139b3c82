"""Tables of the published systems, by what they predict, and over several seeds."""
