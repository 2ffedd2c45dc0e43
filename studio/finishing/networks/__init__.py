"""Networks from files: their tensors read safely, their architecture told by their keys."""
