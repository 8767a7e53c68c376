# SPDX-License-Identifier: Apache-2.0
"""The matrix unit in plain Python integers, one element at a time: what the compiled loops are held to."""

PHASES = {  # what each takes of an 11-bit significand in SrcA and in SrcB, and how far its exponent lies below
    0: (lambda a: a >> 6, lambda b: b >> 4, 0),
    1: (lambda a: (a >> 1) & 31, lambda b: b >> 4, 5),
    2: (lambda a: a >> 6, lambda b: (b & 15) << 3, 7),
    3: (lambda a: (a >> 1) & 31, lambda b: (b & 15) << 3, 12),
}


def fields(word):
    """Sign, exponent and 11-bit significand of an fp32 word in a source register."""
    exponent = (word >> 23) & 255
    return word >> 31, exponent, 0 if exponent == 0 else 0x400 | (word >> 13) & 0x3FF


def half_up(value, shift):
    """value / 2^shift, ties toward +∞."""
    return value if shift <= 0 else (value + (1 << (shift - 1))) >> shift


def half_away(magnitude, shift):
    return half_up(magnitude, shift)


def group_sum(a_words, b_words, phase):
    """Eight products of a phase, added at the group's exponent: (sum, exponent)."""
    take_a, take_b, lowered = PHASES[phase]
    products = []
    for a, b in zip(a_words, b_words, strict=True):
        (sign_a, e_a, m_a), (sign_b, e_b, m_b) = fields(a), fields(b)
        empty = e_a == 0 or e_b == 0
        exponent = 0 if empty else e_a + e_b - 127 - lowered
        products.append((exponent, 0 if empty else take_a(m_a) * take_b(m_b), sign_a ^ sign_b))
    top = max(exponent for exponent, _, _ in products)
    if top <= 0:
        return 0, 0
    total = 0
    for exponent, magnitude, negative in products:
        rounded = half_away(magnitude, min(top - exponent, 30)) if top > exponent else magnitude
        total += -rounded if negative else rounded
    return total, top


def add_to_dest(groups, dest, *, fp32, wormhole):
    """Two group sums on top of an fp32 word in Dest; the new word."""
    e_dest = (dest >> 23) & 255
    m_dest = 0 if e_dest == 0 else 0x800000 | dest & 0x7FFFFF
    top = max(e_dest, *(exponent for _, exponent in groups))
    if top <= 0:
        return 0
    terms = [half_up(total << 13, min(top - exponent, 40)) for total, exponent in groups]
    m_dest = half_away(m_dest, min(top - e_dest, 40))
    if not fp32:
        terms, m_dest = [half_up(t, 13) << 13 for t in terms], half_away(m_dest, 13) << 13
    total = sum(terms) + (-m_dest if dest >> 31 else m_dest)
    if total == 0:
        return 0
    magnitude, kept = abs(total), 24 if fp32 else 8
    length = magnitude.bit_length()
    if fp32 and wormhole and total == -1:
        return 1 << 31 | (top + 4) << 23
    significand = half_away(magnitude, length - kept) if length > kept else magnitude << (kept - length)
    exponent = top + length - 24
    if significand >> kept:
        significand, exponent = significand >> 1, exponent + 1
    if exponent <= 0:
        return 0
    sign = (total < 0) << 31
    if exponent >= 255:
        return sign | 0x7F800000
    return sign | exponent << 23 | (significand << (24 - kept)) & 0x7FFFFF


def dot(b_words, a_words, dest, *, phases, fp32, wormhole, halves_first=False):
    """One element: a row in SrcB times a column in SrcA, K a multiple of 32, on top of `dest`."""
    for tile in range(0, len(a_words), 32):
        steps = [(phase, half) for phase in range(phases) for half in (0, 16)]
        for phase, half in sorted(steps, key=lambda step: step[::-1]) if halves_first else steps:
            at = [slice(tile + half + group, tile + half + group + 8) for group in (0, 8)]
            groups = [group_sum(a_words[lanes], b_words[lanes], phase) for lanes in at]
            dest = add_to_dest(groups, dest, fp32=fp32, wormhole=wormhole)
    return dest
