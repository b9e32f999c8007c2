"""From one patient's record to an explained, calibrated prediction."""
