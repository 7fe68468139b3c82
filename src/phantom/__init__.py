"""The generator of synthetic studies: anatomy, bleeds, mimics, scanners; src/data/phantom.py is its door."""
