#!/usr/bin/env python3
"""Golden cases of every neuron rule, in exact rational arithmetic, independent of the Rust code.

usage: make_neuron.py > neuron.json

Currents are drawn as multiples of theta/2048 so that f64, f32 and scaled integers hold them exactly; epsilon is
theta/1000. Runs that come within 2e-5 of a tie after a shift are left out, since float types may see them differently.
"""
import json
import random
from fractions import Fraction as F


def run(v, currents, theta):
    spikes, before, after = [], [], []
    for i in currents:
        m = v + i
        s = int(m >= theta)
        v = m - theta * s
        spikes.append(s), before.append(m), after.append(v)
    return spikes, before, after


def close_to_tie(start, currents, theta):
    return any(m != theta and abs(m - theta) < F(2, 10**5) for m in run(start, currents, theta)[1])


def case(name, theta, presim, steps, v0, currents):
    pre = currents[:presim]
    total = sum(pre)
    desired = max(0, min(presim, (total / theta + F(1, 2)).__floor__()))
    rounds, start, starts = [], v0, [v0]
    while True:
        spikes, before, after = run(start, pre, theta)
        fired = sum(spikes)
        psi = fired - desired
        residual = after[-1] - start + theta / 2
        sign = 1 if residual < 0 and fired else -1 if residual >= theta and fired < presim else 0
        shift, eps = F(0), theta / 1000
        if psi > 0:
            shift = -max(theta, min(m for m, s in zip(before, spikes) if s) - theta + eps)
        if psi < 0:
            shift = max(theta, theta + eps - max(v for v, s in zip(after, spikes) if not s))
        rounds.append(dict(start=start, fired=fired, residual=residual, offset=psi, sign=sign, shift=shift))
        if psi == 0:
            break
        start += shift
        starts.append(start)
    if any(close_to_tie(s, currents, theta) for s in starts):
        return None
    cos = {}
    for key, n in (("1", 1), ("2", 2), ("3", 3), ("exact", len(starts))):
        s = starts[min(n, len(starts) - 1)]
        cos[key] = dict(start=s, spikes=run(s, currents[:steps], theta)[0], offset=sum(run(s, pre, theta)[0]) - desired)
    # Breakpoints by search, not by recursion: v(0) that just fires k times is one of k'*theta - S_t.
    sums = [sum(pre[: t + 1]) for t in range(presim)]
    candidates = sorted({k * theta - s for k in range(1, presim + 1) for s in sums})
    b = [next(v for v in candidates if sum(run(v, pre, theta)[0]) >= k) for k in range(1, presim + 1)]
    q = run(v0, currents[:steps], theta)
    residual = run(v0, pre, theta)[2][-1]
    return dict(
        name=name, theta=theta, presim=presim, steps=steps, v0=v0, currents=currents, desired=desired,
        qcfs=dict(spikes=q[0], potentials=q[2]), rounds=rounds, cos=cos, breakpoints=b,
        interval=[b[desired - 1] if desired else None, b[desired] if desired < presim else None],
        srp=dict(residual=residual, silent=residual < 0,
                 spikes=[0] * steps if residual < 0 else run(theta / 2, currents[:steps], theta)[0]),
    )


def main():
    one, cases = F(1), []
    for theta in (one, one / 2, 3 * one / 4, 4 * one):
        for name, presim, steps, v0, multiples in (
            ("no input", 4, 4, F(1, 2), [0] * 4),
            ("input exactly theta", 4, 4, F(1, 2), [1] * 4),
            ("saturated", 4, 6, F(1, 2), [F(5, 2)] * 6),
            ("negative input", 4, 6, F(1, 2), [-1] * 6),
            ("one too many", 4, 4, F(1, 2), [1, 1, F(-1, 2), -1]),
            ("one too few", 4, 4, F(1, 2), [-1, F(-1, 2), 1, 2]),
            ("two too many", 4, 4, F(1, 2), [1, 1, 1, -2]),
            ("three too few", 8, 8, F(1, 2), [-2, -2, 0, 0, 0, 0, 0, 8]),
            ("tie at the first step", 4, 4, F(1, 2), [F(1, 2), 0, 0, 0]),
            ("tie missed by 1/1024", 4, 4, F(1, 2), [F(1, 2) - F(1, 1024), 0, 0, 0]),
            ("sum at a rounding half", 4, 4, F(1, 2), [F(1, 4), F(1, 4), F(1, 2), F(1, 2)]),
            ("fewer steps than presim", 4, 1, F(1, 2), [1, 1, F(-1, 2), -1]),
            ("more steps than presim", 2, 6, F(1, 2), [1, -1, 1, -1, 2, 0]),
            ("start at 0", 4, 4, F(0), [F(1, 2)] * 4),
            ("start at 2 theta", 4, 4, F(2), [0] * 4),
            ("presim 1", 1, 3, F(1, 2), [1, 0, 1]),
        ):
            cases.append(case(f"theta={float(theta)} {name}", theta, presim, steps, v0 * theta, [m * theta for m in multiples]))
    draw = random.Random(20230205)
    while len(cases) < 220:
        theta = F(draw.choice([512, 1024, 1434, 2048, 3072, 5325]), 2048)
        presim, steps = draw.choice([1, 2, 3, 4, 4, 4, 6, 8]), draw.choice([1, 2, 3, 4, 6, 8])
        mean, sigma = draw.uniform(-0.3, 1.2), draw.choice([0.3, 0.6, 1.2])
        currents = [F(round(draw.gauss(mean, sigma) * float(theta) * 2048), 2048) for _ in range(max(presim, steps))]
        cases.append(case(f"random {len(cases)}", theta, presim, steps, theta / 2, currents))
        cases = [c for c in cases if c]
    fields = "see make_neuron.py; offsets are fired - desired over the first presim steps"
    print(json.dumps(dict(about="golden vectors for one integrate-and-fire neuron", fields=fields, cases=cases), default=float))


main()
