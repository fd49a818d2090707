"""Loss terms shared by methods: segmentation, later adversarial, correlation and prior."""
