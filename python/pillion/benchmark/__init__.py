"""What `pillion bench` measures with.

- `measure`: times prefills, plain decoding and speculative decoding.
- `setting`, `parallel`: several users of one engine. `arrival`: a long prompt beside a text.
- `users`: requests and the times of their pieces. `timeline`: arithmetic on these times.
- `library_clock`: the time inside the C library, to tell Python's share.
- `simulated_acceptance`: drafts that are accepted at random.
- `placeholder`: a target with random weights, to bench a drafter alone.
"""
