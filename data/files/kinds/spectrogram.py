"""Log-mel spectrograms of waves, and waves from them: scipy's short-time Fourier transform, Griffin & Lim's phases.

log-mel[t, b] = log max(Σ_f M[b, f] |S[f, t]|², FLOOR)     S of a Hann window of 32 ms, a quarter of it apart
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

FLOOR = 1e-3  # power of silence, where a full-scale tone has (window / 4)²
MOMENTUM, TURNS = 0.99, 60  # of Griffin-Lim's faster form
Waves = Float[np.ndarray, "n samples"]


class Mel(NamedTuple):
    """What a spectrogram is made with: samples a second, bands, samples of a wave."""

    rate: int
    bands: int
    samples: int

    @property
    def window(self) -> int:
        """Samples of a window: the power of two at or above 32 ms."""
        return 1 << max(4, int(np.ceil(np.log2(0.032 * self.rate))))


@functools.cache
def transform(mel: Mel) -> Any:
    """Return scipy's transform of these waves."""
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    return ShortTimeFFT(hann(mel.window, sym=False), mel.window // 4, mel.rate)


@functools.cache
def filters(mel: Mel) -> np.ndarray:
    """Return (bands, frequencies) triangles, evenly spaced and wide in mel = 2595 log10(1 + Hz / 700), peaks 1."""
    hertz = transform(mel).f
    places = np.linspace(0, 2595 * np.log10(1 + hertz[-1] / 700), mel.bands + 2)
    at = 700 * (10 ** (places / 2595) - 1)
    rise = (hertz - at[:-2, None]) / np.diff(at)[:-1, None]
    fall = (at[2:, None] - hertz) / np.diff(at)[1:, None]
    out = np.maximum(0, np.minimum(rise, fall))
    nearest = np.abs(hertz - at[1:-1, None]).argmin(1)
    out[np.arange(mel.bands), nearest] = np.maximum(out[np.arange(mel.bands), nearest], 1e-3)  # none is empty
    return out


def first_samples(mel: Mel) -> np.ndarray:
    """Return the first sample in the window of every frame, (frames,): below 0 where it begins before the wave."""
    of = transform(mel)
    return np.arange(of.p_min, of.p_max(mel.samples)) * of.hop - of.m_num_mid


def magnitudes(waves: Waves, mel: Mel) -> Float[np.ndarray, "n frequencies frames"]:
    """Return |S|."""
    return np.abs(transform(mel).stft(np.asarray(waves, np.float64), axis=-1))


def logmel(waves: Waves, mel: Mel) -> Float[np.ndarray, "n frames bands"]:
    """Return log-mel spectrograms, natural logarithm of power."""
    power = (filters(mel) @ magnitudes(waves, mel) ** 2).swapaxes(1, 2)
    return np.log(np.maximum(power, FLOOR)).astype(np.float32)


def mel_inverse(logs: Float[np.ndarray, "n frames bands"], mel: Mel, turns: int = 100) -> np.ndarray:
    """Return magnitudes (n, frequencies, frames) of nearest mel bands: multiplicative updates (Lee & Seung 2001)."""
    m = filters(mel)
    target = np.exp(np.asarray(logs, np.float64)).swapaxes(1, 2)
    top = np.maximum(m.T @ target, 1e-12)
    power = top.copy()
    gram = m.T @ m
    for _ in range(turns):
        power *= top / np.maximum(gram @ power, 1e-12)
    return np.sqrt(power)


def griffin_lim(magnitude: np.ndarray, mel: Mel, turns: int = TURNS, seed: int = 0) -> Waves:
    """Return waves whose spectra have nearly these magnitudes (Griffin & Lim 1984; faster by Perraudin et al. 2013)."""
    of = transform(mel)
    back = lambda s: of.istft(s, k1=mel.samples, f_axis=-2, t_axis=-1)
    angle = np.exp(2j * np.pi * np.random.default_rng(seed).random(magnitude.shape))
    before = np.zeros(magnitude.shape, complex)
    for _ in range(turns):
        found = of.stft(back(magnitude * angle), axis=-1)
        ahead = found + MOMENTUM * (found - before)
        angle, before = ahead / np.maximum(np.abs(ahead), 1e-12), found
    return back(magnitude * angle)


def waves_of(logs: Float[np.ndarray, "n frames bands"], mel: Mel, turns: int = TURNS) -> Waves:
    """Return waves of log-mel spectrograms, samples within -1..1."""
    return np.clip(griffin_lim(mel_inverse(logs, mel), mel, turns), -1, 1)


def distances(true: Waves, made: Waves, mel: Mel) -> dict[str, np.ndarray]:
    """Return of each wave: snr_db of samples, spectral_snr_db of |S|, log_spectral_distance_db.

    snr = 10 log10 Σ x² / Σ (x - y)²; a wave whose phases were made up has none to speak of. The distance is the root
    of the mean squared difference of 20 log10 |S| over the frequencies of a frame, mean over frames; both clipped
    below at 60 dB under the loudest of the true wave (Gray & Markel 1976).
    """
    ratio = lambda a, b, axes: 10 * np.log10((np.square(a).sum(axes) + 1e-12) / (np.square(a - b).sum(axes) + 1e-12))
    a, b = magnitudes(true, mel), magnitudes(made, mel)
    least = np.maximum(1e-3 * a.max((1, 2), keepdims=True), 1e-6)
    gap = 20 * (np.log10(np.maximum(a, least)) - np.log10(np.maximum(b, least)))
    return {
        "snr_db": ratio(np.asarray(true, float), np.asarray(made, float), 1),
        "spectral_snr_db": ratio(a, b, (1, 2)),
        "log_spectral_distance_db": np.sqrt(np.square(gap).mean(1)).mean(1),
    }
