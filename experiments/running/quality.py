"""How like two sets of pictures are: peak signal-to-noise ratio and structural similarity."""

import numpy as np
from jaxtyping import Float

Pictures = Float[np.ndarray, "n height width channels"]
SIGMA, RADIUS = 1.5, 5  # of the window, pixels


def psnr_db(of: Pictures, seen: Pictures) -> float:
    """Return -10 log10 of the mean squared error of values in [0, 1], over all pictures alike; inf for equal ones."""
    error = np.mean(np.square(np.asarray(of, float) - np.asarray(seen, float)))
    return float(-10 * np.log10(error)) if error else float("inf")


def ssim(of: Pictures, seen: Pictures) -> float:
    """Return the mean structural similarity of values in [0, 1], at most 1 (Wang et al. 2004, equation 13).

    (2 ab + c1)(2 cov + c2) / ((a² + b² + c1)(var + var + c2)) under a normal window of 1.5 pixels, c1 = 0.01²,
    c2 = 0.03², averaged over all windows that lie inside (of pictures below 13 pixels: over the middle).
    """
    from scipy.ndimage import gaussian_filter

    blur = lambda x: gaussian_filter(x, (0, SIGMA, SIGMA, 0), radius=(0, RADIUS, RADIUS, 0))
    a, b = np.asarray(of, float), np.asarray(seen, float)
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, both = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    above = (2 * mean_a * mean_b + 0.01**2) * (2 * both + 0.03**2)
    found = above / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))
    cut = min(RADIUS, (min(a.shape[1:3]) - 1) // 2)
    return float(found[:, cut : a.shape[1] - cut, cut : a.shape[2] - cut].mean())
