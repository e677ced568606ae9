"""What `pillion bench` measures with.

- `measure`: times prefills, plain decoding and speculative decoding.
- `placeholder`: a drafter that accepts a given share, for models with random weights.
"""
