"""Chat templates for tests, written after what public Gemma 4 templates print (whitespace and order
included).

FIRST knows no role "tool"; it takes results only as `tool_responses` of an assistant message. LATER
reads the messages with the role "tool" that follow a call.
"""

_MACROS = """
{%- macro arg(v, quoted=true) -%}
  {%- if v is string -%}<|"|>{{ v }}<|"|>
  {%- elif v is boolean -%}{{ 'true' if v else 'false' }}
  {%- elif v is mapping -%}
    {{- '{' -}}
    {%- for k, x in v | dictsort -%}
      {%- if quoted -%}<|"|>{{ k }}<|"|>{%- else -%}{{ k }}{%- endif -%}
      :{{ arg(x, quoted) }}{{ ',' if not loop.last }}
    {%- endfor -%}
    {{- '}' -}}
  {%- elif v is sequence -%}
    [{% for x in v %}{{ arg(x, quoted) }}{{ ',' if not loop.last }}{% endfor %}]
  {%- else -%}{{ v }}
  {%- endif -%}
{%- endmacro -%}
{%- macro names(list) -%}
  [{% for n in list %}<|"|>{{ n }}<|"|>{{ ',' if not loop.last }}{% endfor %}]
{%- endmacro -%}
{%- macro members(args, skip=false) -%}
  {%- set state = namespace(first=true) -%}
  {%- for k, p in args | dictsort -%}
    {%- if not skip or k not in ['description', 'type', 'properties', 'required', 'nullable'] -%}
      {{- '' if state.first else ',' }}{{ k }}:{
      {{- schema(p) }}type:<|"|>{{ p['type'] | upper }}<|"|>}
      {%- set state.first = false -%}
    {%- endif -%}
  {%- endfor -%}
{%- endmacro -%}
{%- macro schema(p) -%}
  {%- set kind = p['type'] | upper -%}
  {%- if p['description'] %}description:<|"|>{{ p['description'] }}<|"|>,{% endif -%}
  {%- if kind == 'STRING' and p['enum'] %}enum:{{ arg(p['enum']) }},{% endif -%}
  {%- if kind == 'ARRAY' and p['items'] is mapping and p['items'] -%}
    items:{
    {%- for k, v in p['items'] | dictsort if v is not none -%}
      {{- k }}:{% if k == 'properties' -%}{ {{- members(v) -}} }
      {%- elif k == 'required' %}{{ names(v) }}
      {%- elif k == 'type' %}{{ arg(v | upper) }}
      {%- else %}{{ arg(v) }}
      {%- endif -%}
      {{- ',' if not loop.last }}
    {%- endfor -%}
    },
  {%- endif -%}
  {%- if p['nullable'] %}nullable:true,{% endif -%}
  {%- if kind == 'OBJECT' -%}
    properties:{
    {%- if p['properties'] is mapping %}{{ members(p['properties']) }}
    {%- else %}{{ members(p, true) }}{% endif -%}
    },{% if p['required'] %}required:{{ names(p['required']) }},{% endif -%}
  {%- endif -%}
{%- endmacro -%}
{%- macro declaration(f) -%}
  declaration:{{ f['name'] }}{description:<|"|>{{ f['description'] }}<|"|>
  {%- set p = f['parameters'] -%}
  {%- if p -%}
    ,parameters:{
    {%- if p['properties'] %}properties:{ {{- members(p['properties']) -}} },{% endif -%}
    {%- if p['required'] %}required:{{ names(p['required']) }},{% endif -%}
    {%- if p['type'] %}type:<|"|>{{ p['type'] | upper }}<|"|>}{% endif -%}
  {%- endif -%}
  }
{%- endmacro -%}
{%- macro calls(message) -%}
  {%- for call in message['tool_calls'] or [] -%}
    <|tool_call>call:{{ call['function']['name'] }}
    {{- arg(call['function']['arguments'], false) }}<tool_call|>
  {%- endfor -%}
{%- endmacro -%}
{%- macro response(name, value) -%}
  <|tool_response>response:{{ name }}
  {%- if value is mapping %}{{ arg(value, false) }}
  {%- else -%}{value:{{ arg(value, false) }}}{% endif -%}
  <tool_response|>
{%- endmacro -%}
{%- macro spoken(text) -%}
  {%- for part in text.split('<channel|>') %}{{ part.split('<|channel>')[0] }}{% endfor -%}
{%- endmacro -%}
{{ bos_token }}
{%- set rest = messages -%}
{%- if enable_thinking or tools or messages[0]['role'] in ['system', 'developer'] -%}
  {{- '<|turn>system\\n' }}{{ '<|think|>' if enable_thinking }}
  {%- if messages[0]['role'] in ['system', 'developer'] -%}
    {{- messages[0]['content'] | trim }}{% set rest = messages[1:] -%}
  {%- endif -%}
  {%- for tool in tools or [] -%}
    <|tool>{{ declaration(tool['function']) | trim }}<tool|>
  {%- endfor -%}
  {{- '<turn|>\\n' }}
{%- endif -%}
{%- set state = namespace(last='') -%}
"""

FIRST = (
    _MACROS
    + """
{%- for m in rest -%}
  {{- '<|turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' }}{{ calls(m) }}
  {%- for one in m['tool_responses'] or [] -%}
    {{ response(one['name'], one['response']) }}
  {%- endfor -%}
  {%- set state.last = 'response' if m['tool_responses'] else '' -%}
  {%- if m['role'] == 'assistant' %}{{ spoken(m['content']) | trim }}
  {%- else %}{{ m['content'] | trim }}{% endif -%}
  {%- if not (m['tool_responses'] and not m['content']) %}{{ '<turn|>\\n' }}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt and state.last != 'response' %}{{ '<|turn>model\\n' }}{% endif -%}
"""
)

FIRST_LARGE = (
    FIRST
    + """{%- if add_generation_prompt and not enable_thinking -%}
  {{ '<|channel>thought\\n<channel|>' }}
{%- endif -%}"""
)
"""As the larger models have it: an empty thought when thinking is off."""

LATER = (
    _MACROS
    + """
{%- set turns = namespace(user=-1, open=false) -%}
{%- for m in rest -%}
  {%- if m['role'] == 'user' %}{% set turns.user = loop.index0 %}{% endif -%}
{%- endfor -%}
{%- for m in rest -%}
  {%- if m['role'] != 'tool' -%}
    {%- set role = 'model' if m['role'] == 'assistant' else m['role'] -%}
    {%- if not (turns.open and role == 'model') %}{{ '<|turn>' + role + '\\n' }}{% endif -%}
    {%- set thought = m.get('reasoning_content') -%}
    {%- if thought and loop.index0 > turns.user and m.get('tool_calls') -%}
      {{- '<|channel>thought\\n' + thought + '\\n<channel|>' }}
    {%- endif -%}
    {{- calls(m) }}
    {%- set results = namespace(stopped=not m.get('tool_calls'), any=false) -%}
    {%- for follow in rest[loop.index:] if not results.stopped -%}
      {%- if follow['role'] == 'tool' and not results.stopped -%}
        {{- response(follow['name'], follow['content']) }}{% set results.any = true -%}
      {%- else %}{% set results.stopped = true %}{% endif -%}
    {%- endfor -%}
    {%- set said = spoken(m['content']) | trim if role == 'model' else m['content'] | trim -%}
    {{- said }}
    {%- set turns.open = results.any and not said -%}
    {%- if not turns.open %}{{ '<turn|>\\n' }}{% endif -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and not turns.open %}{{ '<|turn>model\\n' }}{% endif -%}
"""
)

GEMMA2 = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
  {{ raise_exception('System role not supported') }}
{%- endif -%}
{%- for m in messages -%}
  {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}
    {{ raise_exception('Roles must alternate') }}
  {%- endif -%}
  {{- '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n'
      + m['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif -%}"""

GEMMA3 = """{{ bos_token }}
{%- set first, rest = '', messages -%}
{%- if messages[0]['role'] == 'system' -%}
  {%- set first, rest = messages[0]['content'] + '\\n\\n', messages[1:] -%}
{%- endif -%}
{%- for m in rest -%}
  {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}
    {{ raise_exception('Roles must alternate') }}
  {%- endif -%}
  {{- '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n'
      + (first if loop.first else '') }}
  {{- m['content'] | trim + '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif -%}"""

LLAMA3 = """{{ bos_token }}
{%- for m in messages -%}
  {{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n'
      + m['content'] | trim + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif -%}"""

# Tools by name only, arguments of any type: enough for calls, and the way back.
CALLING = """
{%- macro argument(value) -%}
  {%- if value is string -%}<|"|>{{ value }}<|"|>
  {%- elif value is boolean -%}{{ 'true' if value else 'false' }}
  {%- elif value is mapping -%}
    {{ '{' }}
    {%- for k, v in value | dictsort %}{{ k }}:{{ argument(v) }}{{ ',' if not loop.last }}
    {%- endfor %}{{ '}' }}
  {%- elif value is sequence -%}
    [{% for v in value %}{{ argument(v) }}{{ ',' if not loop.last }}{% endfor %}]
  {%- else -%}{{ value }}
  {%- endif -%}
{%- endmacro -%}
{{- bos_token -}}
{%- if tools -%}
  {{ '<|turn>system\n' }}
  {%- for tool in tools %}<|tool>declaration:{{ tool.function.name }}<tool|>{% endfor -%}
  {{ '<turn|>\n' }}
{%- endif -%}
{%- set state = namespace(open=false) -%}
{%- for message in messages -%}
  {%- if message['role'] == 'tool' -%}
    {{- '<|tool_response>response:' + message['name'] + '{value:' + argument(message['content'])
        + '}<tool_response|>' -}}
  {%- else -%}
    {%- if state.open and message['role'] != 'assistant' -%}
      {{ '<turn|>\n' }}{%- set state.open = false -%}
    {%- endif -%}
    {%- if not state.open -%}
      {{ '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}
    {%- endif -%}
    {%- if message.get('reasoning_content') -%}
      {{ '<|channel>thought\n' + message['reasoning_content'] + '\n<channel|>' }}
    {%- endif -%}
    {%- for call in message['tool_calls'] or [] -%}
      {{- '<|tool_call>call:' + call['function']['name']
          + argument(call['function']['arguments']) + '<tool_call|>' -}}
    {%- endfor -%}
    {{- message['content'] | trim -}}
    {%- if message['tool_calls'] -%}{%- set state.open = true -%}
    {%- else -%}{{ '<turn|>\n' }}{%- set state.open = false -%}{%- endif -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {%- if not state.open -%}{{ '<|turn>model\n' }}{%- endif -%}
  {%- if enable_thinking -%}{{ '<|channel>thought\n' }}{%- endif -%}
{%- endif -%}"""
