"""What the synthetic data set is drawn from: anatomy, bleeds, mimics, scanners, patients and studies."""
