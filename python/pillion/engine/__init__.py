"""The engine: one thread that writes all requests, in turns, on a few slots.

Read in this order:

- `engine.Engine`: what callers see; it takes requests from any thread.
- `work`: `Request`, what a caller asks for; `Work`, a request on its way.
- `loop`: the engine's thread. `scheduler`: whose turn is next. `stats`: what was counted.
- `slot`: one context and its drafter; runs a part of a prompt, or a round.
- `assembler`: tokens to text. `stops`: the strings that end a text.
- `generation.Generation`: the caller's handle. `waiting`: how threads and tasks wait for it.
"""
