"""Counts against the probabilities that they should have."""

import math


def chi_square_p(x, df):
    """The chance that a chi-square variable with df degrees of freedom is above x (df even: a
    Poisson sum; odd: with erfc)."""
    half, odd = x / 2, df % 2
    total = math.erfc(math.sqrt(half)) if odd else 0.0
    log_term = 0.5 * math.log(half) - half - math.lgamma(1.5) if odd else -half
    for i in range(df // 2):
        total += math.exp(log_term)
        log_term += math.log(half) - math.log(i + 1 + odd / 2)
    return total


def p_of_counts(counts, probabilities):
    """Chi-square test of counts by cell; cells with an expectation below 5 are one. What has no
    cell fails by itself."""
    n = sum(counts.values())
    assert math.isclose(sum(probabilities.values()), 1, rel_tol=1e-9)
    if not set(counts) <= set(probabilities):
        return 0.0
    large = [cell for cell, p in probabilities.items() if n * p >= 5]
    pairs = [(counts[cell], n * probabilities[cell]) for cell in large]
    rest = n - sum(expected for _, expected in pairs)
    if rest >= 5:
        pairs.append((n - sum(count for count, _ in pairs), rest))
    return chi_square_p(
        sum((count - expected) ** 2 / expected for count, expected in pairs), len(pairs) - 1
    )
