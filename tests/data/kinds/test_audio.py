"""Sound: widths, rates and channels of wav files, speakers in one split each, spectrograms there and back to a wave."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from scipy.io import wavfile

import data
from data.errors import DataError
from data.files.kinds import audio, spectrogram, wav
from data.files.kinds.spectrogram import Mel
from data.options import Options

RATE = 8000
TIME = np.arange(1600) / RATE


def tone(hertz, sweep=0.0):
    """A chirp of 0.2 s that starts and ends softly."""
    return 0.5 * np.sin(np.pi * TIME / TIME[-1]) * np.sin(2 * np.pi * (hertz + sweep * TIME) * TIME)


def content(wave, dtype=np.int16, rate=RATE):
    """The bytes of a wav file."""
    most = {np.int16: 32767, np.int32: 2**31 - 1, np.float32: 1.0, np.uint8: 127}[dtype]
    file = io.BytesIO()
    wavfile.write(file, rate, (np.round(wave * most) + 128 if dtype is np.uint8 else wave * most).astype(dtype))
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Forty recordings of four labels by five speakers, names LABEL_SPEAKER_TAKE."""
    place = tmp_path_factory.mktemp("tones")
    for label in range(4):
        for s, speaker in enumerate(("ann", "bob", "cy", "di", "ed")):
            for take in range(2):
                wave = tone(400 + 500 * label + 20 * s, 300 * take)
                (place / f"{label}_{speaker}_{take}.wav").write_bytes(content(wave))
    return place


def load(place, how="", **options):
    return data.load(f"file:{place}{how}", options=Options(**options))


def test_speakers_are_in_one_split_and_labels_come_from_names(folder):
    found = load(folder)
    assert (found.kind, found.classes) == ("audio", ("0", "1", "2", "3"))
    assert {key: len(split) for key, split in found.splits.items()} == {"train": 24, "validation": 8, "test": 8}
    assert "by speaker, train: ann, bob, cy; validation: di; test: ed" in found.line()
    again = data.read(folder, like=found.record())
    test = [name for name in again.names if "_ed_" in name]
    assert found.splits["test"].y.tolist() == [int(name[0]) for name in test]
    np.testing.assert_array_equal(again.x[[again.names.index(n) for n in test]], found.splits["test"].x)
    assert load(folder, "#wave").shape == (1600, 1)
    assert load(folder, "#logmel/16bands/0.1s").shape[1] == 16


def test_generated_tones_need_no_file_and_spoken_digits_say_what_they_need():
    found = data.load("tones#wave/16bands")
    assert (found.labels, found.shape[1], len(found.splits["test"])) == (5, 1, 40)
    with pytest.raises(DataError, match=r"free-spoken-digit-dataset-1\.0\.9\.tar\.gz .* or take tones"):
        data.load("spoken_digit")


@pytest.mark.parametrize("form", ["wave", "logmel"])
def test_what_lies_behind_an_end_is_missing_unless_silence_is_kept(form, tmp_path):
    """Samples that were put there, or frames without a sample of the recording: there is nothing in them."""
    found, kept = data.load(f"tones#{form}"), data.load(f"tones#{form}/silence")
    assert (found.missing, kept.missing) == (True, False)
    nothing = 0.0 if form == "wave" else np.log(spectrogram.FLOOR, dtype=np.float32)
    for key, split in found.splits.items():
        gone, x = np.isnan(split.x), kept.splits[key].x
        np.testing.assert_array_equal(split.x[~gone], x[~gone])
        np.testing.assert_array_equal(x[gone], nothing)
        last = gone.all(2).argmax(1)
        assert gone.any((1, 2)).mean() > 0.5
        assert (np.diff(gone.all(2).astype(int), axis=1) >= 0).all()  # nothing comes again behind an end
        assert last.std() > 1
    (tmp_path / "a.wav").write_bytes(content(tone(500)[:800]))
    again = data.read(tmp_path, like=found.record()).x[0]
    seen = 800 if form == "wave" else (800 + 192 + 63) // 64  # frames begin at -192, 64 apart
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(again).all(1)), np.arange(seen, len(again)))
    waves = audio.waves_of(again[None], found.record()["reading"])
    assert np.abs(waves[0, 1000:]).max() < 0.01 < np.abs(waves[0, 200:600]).max()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_is_its_folder(folder, tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in folder.iterdir():
                archive.write(file, f"top/{file.name}")
    else:
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, "top")
    a, b = load(folder), load(path)
    for key, split in a.splits.items():
        np.testing.assert_array_equal(split.x, b.splits[key].x)
        np.testing.assert_array_equal(split.y, b.splits[key].y)


def test_every_width_holds_the_same_wave_and_channels_and_rates_are_said(tmp_path):
    wave = tone(700)
    for dtype, bits in ((np.uint8, 7), (np.int16, 15), (np.int32, 24), (np.float32, 23)):
        found, rate, channels = wav.decode(content(wave, dtype), "a.wav")
        assert (rate, channels) == (RATE, 1)
        np.testing.assert_allclose(found, wave, atol=2.0 ** (1 - bits))
    both = np.stack([wave, -wave / 2], axis=1)
    np.testing.assert_allclose(wav.decode(content(both), "a.wav")[0], wave / 4, atol=1e-4)
    (tmp_path / "a.wav").write_bytes(content(wave))
    (tmp_path / "b.wav").write_bytes(content(both))
    (tmp_path / "c.wav").write_bytes(content(np.interp(np.arange(3200) / 2, np.arange(1600), wave), rate=2 * RATE))
    found = wav.recordings(tmp_path)
    assert found.remarks == ("channels averaged in 1 of 3 recordings", "resampled to 8000 Hz: 1 of 16000 Hz")
    assert np.abs(found.waves[2] - wave).max() < 0.02  # half the rate again


def test_a_spectrogram_shows_its_tone_and_comes_back_as_a_wave():
    mel = Mel(RATE, 40, 1600)
    waves = np.stack([tone(500), tone(1500)])
    logs = spectrogram.logmel(waves, mel)
    peaks = transform_peaks(mel, logs)
    np.testing.assert_allclose(peaks, [500, 1500], rtol=0.08)
    back = spectrogram.waves_of(logs, mel)
    assert back.shape == waves.shape
    np.testing.assert_allclose(transform_peaks(mel, spectrogram.logmel(back, mel)), peaks)
    true = spectrogram.griffin_lim(spectrogram.magnitudes(waves, mel), mel)
    near, far = (spectrogram.distances(waves, w, mel)["spectral_snr_db"] for w in (true, back))
    assert (near > 20).all()
    assert (near > far).all()  # 40 bands know less than all frequencies
    same = spectrogram.distances(waves, waves, mel)
    assert (same["snr_db"] > 100).all()
    np.testing.assert_allclose(same["log_spectral_distance_db"], 0, atol=1e-9)
    half = spectrogram.distances(waves, waves / 2, mel)  # 1/2 is 6.02 dB off at every frequency, and in the error
    np.testing.assert_allclose(half["snr_db"], 20 * np.log10(2), rtol=1e-6)
    np.testing.assert_allclose(half["spectral_snr_db"], 20 * np.log10(2), rtol=1e-6)
    assert (half["log_spectral_distance_db"] <= 20 * np.log10(2) + 1e-9).all()


def transform_peaks(mel, logs):
    """Return the hertz of the loudest band in the middle of each spectrogram."""
    loudest = logs[:, logs.shape[1] // 2].argmax(1)
    return spectrogram.transform(mel).f[spectrogram.filters(mel).argmax(1)][loudest]


def test_a_wav_is_written_and_read_again():
    waves = np.stack([tone(500), tone(900)])
    found, rate, _ = wav.decode(wav.encode(waves, RATE, gap=0.1), "a.wav")
    assert (rate, len(found)) == (RATE, 2 * 1600 + 800)
    np.testing.assert_allclose(found[2400:], waves[1], atol=1e-4)
    reading = {"form": "wave", "rate": RATE, "bands": 40, "samples": 1600}
    np.testing.assert_allclose(audio.waves_of(audio.features(waves, reading), reading), waves, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "held", "how", "words"),
    [
        ("a.wav", b"RIFF....WAVE", "", "not a readable wav file"),
        ("a.wav", content(np.zeros(0)), "", "no samples in it"),
        ("a.wav", content(np.zeros(1600)), "#0.02s/wave", "every recording is silent"),
        ("a.wav", content(tone(500)), "", "too few to split in three"),
        ("a.wav", content(tone(500)), "#mp3", "'mp3' after # is none of logmel, wave, silence, a rate"),
    ],
)
def test_what_cannot_be_heard_is_one_line(tmp_path, name, held, how, words):
    (tmp_path / name).write_bytes(held)
    with pytest.raises(DataError) as caught:
        load(tmp_path / name, how)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_link_to_nowhere_among_recordings_is_named(folder, tmp_path):
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    with pytest.raises(DataError, match=r"gone\.wav: cannot be read"):
        wav.recordings(tmp_path)
