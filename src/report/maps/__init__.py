"""Where a network looks: Grad-CAM of every kind of network, and a page of maps."""
