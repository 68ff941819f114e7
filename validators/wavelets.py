"""Two-layer wavelet-modulus features: texture statistics that no training set can bend."""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

ORIENTATIONS, SCALES = 4, 3
BATCH = 256


def wavelet_features(images: Tensor) -> np.ndarray:
    """Return texture features ``(N, 48)`` float64 of grey images, ``(N, 54)`` of RGB.

    Logarithms of: mean (12) and deviation (12) of the modulus after Morlet-like filters at 3 scales and 4
    orientations; mean modulus (24) of a second, coarser layer, along and across the first orientation. RGB
    adds mean and deviation of each channel.

    Args:
        images: ``(N, C, H, W)`` float in [0, 1], H and W at least 8.

    Source: Bruna and Mallat 2013 (invariant scattering), reduced to global averages.
    """
    return np.concatenate([_bank(images[i : i + BATCH]) for i in range(0, len(images), BATCH)])


def _bank(images: Tensor) -> np.ndarray:
    grey = images.mean(1)
    height, width = grey.shape[1:]
    centred = grey - grey.mean((1, 2), keepdim=True)
    filters = _filters(height, width)
    first, power = _modulus(torch.fft.fft2(centred)[:, None] * filters)  # (N, 12, H, W)
    mean = first.mean((2, 3))
    features = [mean, (power.mean((2, 3)) - mean.square()).clamp_min(0).sqrt()]
    # A modulus is smoother than its band: half the resolution holds all that the coarser filters see.
    small = torch.nn.functional.avg_pool2d(first, 2)
    spectrum = torch.fft.fft2(small - small.mean((2, 3), keepdim=True))
    coarse = _filters(*small.shape[2:], octave=1)
    for fine_scale in range(SCALES - 1):
        for scale in range(fine_scale + 1, SCALES):
            source = spectrum[:, fine_scale * ORIENTATIONS : (fine_scale + 1) * ORIENTATIONS]
            bank = coarse[scale * ORIENTATIONS : (scale + 1) * ORIENTATIONS]
            both = (bank, bank.roll(ORIENTATIONS // 2, 0))
            features += [_modulus(source * turned)[0].mean((2, 3)) for turned in both]
    logs = [torch.log(x + 1e-3) for x in features]
    if images.shape[1] > 1:
        logs += [images.mean((2, 3)), images.std((2, 3))]
    return torch.cat(logs, 1).double().numpy()


def _modulus(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """Return modulus and power of the filtered images; ``abs`` of complex numbers is three times slower."""
    filtered = torch.view_as_real(torch.fft.ifft2(spectrum))
    power = filtered[..., 0].square() + filtered[..., 1].square()
    return power.sqrt(), power


@lru_cache(maxsize=8)
def _filters(height: int, width: int, octave: int = 0) -> Tensor:
    """Return the bank in the Fourier domain ``(12, H, W)``; ``octave`` is how often the map was halved."""
    y = torch.fft.fftfreq(height)[:, None] * 2 * math.pi
    x = torch.fft.fftfreq(width)[None] * 2 * math.pi
    # Frequencies repeat every 2π: without the copies a filter would miss a chequerboard, which lies at -π.
    copies = [(2 * math.pi * i, 2 * math.pi * j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    bank = []
    for scale in range(SCALES):
        for turn in range(ORIENTATIONS):
            angle = math.pi * turn / ORIENTATIONS
            bank.append(sum(_bump(y + dy, x + dx, angle, scale - octave) for dy, dx in copies))
    return torch.stack(bank)


def _bump(y: Tensor, x: Tensor, angle: float, octaves: int) -> Tensor:
    """Return a Gaussian in the Fourier plane, along ``angle``, ``octaves`` below the finest band."""
    # The plane is a square: its corners are farther out than its sides.
    reach = 1 / max(abs(math.cos(angle)), abs(math.sin(angle)))
    centre, spread = 3 * math.pi / 4 * reach * 2.0**-octaves, 0.8 * 2.0**octaves
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    # Slant 2/3: the band is wider across its direction than along it.
    return torch.exp(-(spread**2) / 2 * ((along - centre) ** 2 + (1.5 * across) ** 2))
