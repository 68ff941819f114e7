"""Do two images of the same thing show the same structure, at the same places?"""

import numpy as np
import torch
from scipy.ndimage import gaussian_gradient_magnitude

WINDOW_PX = 7
"""Side of the window in which structure is compared, as in the paper."""


def structure(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the structural similarity of each pair, ``(N,)`` in [-1, 1], 1 for equal images.

    Args:
        first: ``(N, C, H, W)`` uint8, at least 7 px a side.
        second: the same shape.

    Source: Wang, Bovik, Sheikh & Simoncelli, IEEE Transactions on Image Processing 2004, by MONAI.
    """
    from monai.metrics.regression import SSIMMetric

    metric = SSIMMetric(spatial_dims=2, data_range=255.0, kernel_type="uniform", win_size=WINDOW_PX)
    values = metric(*(torch.from_numpy(images.astype(np.float32)) for images in (first, second)))
    return torch.as_tensor(values).reshape(len(first)).double().numpy()


def edges(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlation of the edges of each pair, ``(N,)`` in [-1, 1]; 0 where an image has none.

    Edges are the magnitude of the gradient of the mean channel at a scale of one pixel; how bright an image
    is, and which side of an edge is bright, does not count.

    Args:
        first: ``(N, C, H, W)`` uint8.
        second: the same shape.
    """
    rows = [
        np.stack([gaussian_gradient_magnitude(image.mean(axis=0, dtype=np.float64), 1.0) for image in images])
        for images in (first, second)
    ]
    a, b = (each.reshape(len(each), -1) - each.mean(axis=(1, 2))[:, None] for each in rows)
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.where(scale > 1e-9, (a * b).sum(axis=1) / np.maximum(scale, 1e-9), 0.0)
