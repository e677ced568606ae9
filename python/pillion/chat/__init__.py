"""Conversations: from messages to a prompt, and from a reply back to a message.

Read in this order:

- `messages`, `tools`: check what callers give, in the form of OpenAI's API.
- `template.ChatTemplate`: renders messages through the file's Jinja template.
- `format.ChatFormat`: knows what a template can't do and works around it.
- `quoting`: keeps markers that stand in a caller's text from becoming control tokens.
- `replies`: splits a reply into thinking, content and calls. `tool_calls`: reads one call.
"""
