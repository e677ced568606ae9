"""Requests as coding agents send them: the fields, headers and sizes of Claude Code's and Codex's,
with other words."""

import copy

WORDS = "Work in the folder that the user names, and say in one sentence what you did. " * 12
EPHEMERAL = {"type": "ephemeral"}

CLAUDE_HEADERS = {
    "anthropic-version": "2023-06-01",
    "anthropic-beta": (
        "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27"
    ),
    "anthropic-dangerous-direct-browser-access": "true",
    "x-app": "cli",
    "x-stainless-lang": "js",
    "x-stainless-retry-count": "0",
    "user-agent": "claude-cli/2.1.0 (external, cli)",
}

CODEX_HEADERS = {
    "originator": "codex_cli_rs",
    "openai-beta": "responses=experimental",
    "session_id": "0199aaaa-0000-7000-8000-000000000000",
    "accept": "text/event-stream",
    "user-agent": "codex_cli_rs/0.98.0 (Debian 13; x86_64) xterm",
}

PARAMETERS = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "command": {"description": "The command.", "type": "string"},
        "timeout": {"description": "Milliseconds.", "type": "number", "maximum": 600000},
        "mode": {"type": "string", "enum": ["content", "files", "count"]},
        "edits": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"old": {"type": "string"}, "new": {"type": "string"}},
                "required": ["old", "new"],
                "additionalProperties": False,
            },
        },
        "-A": {"type": "number"},
    },
    "required": ["command"],
    "additionalProperties": False,
}
NAMES = (
    "Bash",
    "Read",
    "Edit",
    "Write",
    "Glob",
    "Grep",
    "Task",
    "TodoWrite",
    "WebFetch",
    "KillShell",
    "BashOutput",
    "ExitPlanMode",
    "AskUserQuestion",
    "NotebookEdit",
    "SlashCommand",
    "Skill",
    "mcp__github__create_pull_request",
    "mcp__github__search_code",
)


def text(words, **more):
    return {"type": "text", "text": words, **more}


def claude_code(*turns, stream=True):
    """A request of the main loop. turns: messages after the first."""
    tools = [{"name": one, "description": WORDS, "input_schema": PARAMETERS} for one in NAMES]
    tools.append({"type": "web_search_20250305", "name": "web_search", "max_uses": 8})
    system = [
        text("x-anthropic-billing-header: cc_version=2.1.0.abc; cc_entrypoint=cli; cch=0a1b2;"),
        text("You are an agent for the command line.", cache_control=EPHEMERAL),
        text(WORDS * 4, cache_control={**EPHEMERAL, "ttl": "1h"}),
    ]
    reminder = text("<system-reminder>\nThe list of todos is empty.\n</system-reminder>\n")
    ask = {"role": "user", "content": [reminder, text("What is here?", cache_control=EPHEMERAL)]}
    return copy.deepcopy(
        {
            "model": "claude-opus-4-6",
            "messages": [ask, *turns],
            "system": system,
            "tools": tools,
            "metadata": {"user_id": "user_0123_account__session_4567"},
            "max_tokens": 32000,
            "thinking": {"type": "enabled", "budget_tokens": 31999},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "output_config": {"effort": "high"},
            "temperature": 1,
            "stream": stream,
        }
    )


def claude_turn(content, call):
    """What follows an answer that called a tool; content: that answer's."""
    result = {
        "type": "tool_result",
        "tool_use_id": call,
        "content": "README.md\nsrc",
        "is_error": False,
    }
    result["cache_control"] = EPHEMERAL
    reminder = text("<system-reminder>\nBe brief.\n</system-reminder>")
    return [
        {"role": "assistant", "content": content},
        {"role": "user", "content": [result, reminder]},
    ]


def codex(*items, stream=True):
    """A request of Codex. items: of the input, behind the first message."""

    def message(role, *words):
        return {
            "type": "message",
            "role": role,
            "content": [{"type": "input_text", "text": one} for one in words],
        }

    names = ("exec_command", "write_stdin", "update_plan", "view_image")
    tools = [
        {
            "type": "function",
            "name": one,
            "description": WORDS,
            "strict": False,
            "parameters": PARAMETERS,
        }
        for one in names
    ]
    form = {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin Patch" LF'}
    tools.append({"type": "custom", "name": "apply_patch", "description": WORDS, "format": form})
    tools.append({"type": "web_search", "external_web_access": False})
    return copy.deepcopy(
        {
            "model": "gpt-5.4-codex",
            "instructions": WORDS * 4,
            "input": [
                message(
                    "developer", "<permissions instructions>Ask first.</permissions instructions>"
                ),
                message("user", "<environment_context>\n  <cwd>/tmp</cwd>\n</environment_context>"),
                message("user", "What is here?"),
                *items,
            ],
            "tools": tools,
            "tool_choice": "auto",
            "parallel_tool_calls": False,
            "reasoning": {"effort": "medium", "summary": "auto"},
            "store": False,
            "stream": stream,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": "0199aaaa-0000-7000-8000-000000000000",
            "text": {"verbosity": "medium"},
            "client_metadata": {"x-codex-installation-id": "1"},
        }
    )
