"""A client of `pillion serve` that needs nothing but Python: lists the model and streams an answer.

pillion serve [MODEL.gguf] --port 8080
python examples/serve_client.py [http://127.0.0.1:8080]
"""

import json
import sys
import urllib.request


def main(address: str) -> None:
    with urllib.request.urlopen(f"{address}/v1/models") as reply:
        print("model:", json.load(reply)["data"][0]["id"])
    body = {
        "messages": [{"role": "user", "content": "Read Genesis 1."}],
        "max_tokens": 40,
        "stream": True,
    }
    request = urllib.request.Request(
        f"{address}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as reply:
        for line in reply:  # server-sent events: `data: {…}`, at the end `data: [DONE]`
            event = line.decode().removeprefix("data: ").strip()
            if event and event != "[DONE]":
                for choice in json.loads(event)["choices"]:
                    print(choice["delta"].get("content") or "", end="", flush=True)
    print()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080")
