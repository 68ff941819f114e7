"""What a classifier's probabilities are worth."""

import numpy as np

from phantomset.validators.measures.rates import auc


def balanced_accuracy(truth: np.ndarray, guess: np.ndarray) -> float:
    """Return the mean recall over the classes that occur in ``truth (N,)``, in [0, 1]; higher is better."""
    recalls = recall_by_class(truth, guess, int(max(truth.max(), guess.max())) + 1)
    return float(np.nanmean(recalls))


def recall_by_class(truth: np.ndarray, guess: np.ndarray, classes: int) -> np.ndarray:
    """Return each class's share of right guesses, ``(K,)`` in [0, 1]; NaN for a class that does not occur."""
    counts = np.bincount(truth, minlength=classes).astype(np.float64)
    right = np.bincount(truth[truth == guess], minlength=classes)
    return np.divide(right, counts, out=np.full(classes, np.nan), where=counts > 0)


def class_auc(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return each class's one-against-rest AUROC, ``(K,)`` in [0, 1]; NaN where one side is empty."""
    found = np.full(probabilities.shape[1], np.nan)
    for label in range(probabilities.shape[1]):
        own = truth == label
        if own.any() and not own.all():
            found[label] = auc(probabilities[own, label], probabilities[~own, label])
    return found


def calibration_error(truth: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error of the most likely class, in [0, 1]; lower is better.

    Source: Naeini et al. 2015, equal-width bins.
    """
    confidence, guess = probabilities.max(1), probabilities.argmax(1)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=(guess == truth) - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))
