"""Pages for people: the interface described, and each problem type explained. Plain HTML, no script."""

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gateway.web.described import problem_types

_STYLE: Final = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.2rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }
code, pre { font: 0.9em/1.5 ui-monospace, monospace; }
pre { overflow-x: auto; padding: 0.8rem; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top;
padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid var(--line); }
.method { font-weight: 700; } .scroll { overflow-x: auto; }
"""


def docs_page(document: dict[str, Any]) -> str:
    """An OpenAPI document as one page."""
    title = document["info"]["title"]
    parts = [f"<h1>{_text(title)}</h1>", f"<p>Version {_text(document['info']['version'])}. "]
    parts.append('The same for machines: <a href="/openapi.json"><code>/openapi.json</code></a>.</p>')
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts += _operation(path, method, operation)
    parts.append("<h2>Schemas</h2>")
    for name, schema in document["components"]["schemas"].items():
        shown = _text(json.dumps(schema, indent=2, ensure_ascii=False))
        parts.append(
            f'<details id="{_text(name)}"><summary><code>{_text(name)}</code></summary><pre>{shown}</pre></details>'
        )
    return _page(title, "".join(parts))


def problem_page(name: str) -> str | None:
    """What a problem type means; None where there is no such type."""
    classes = problem_types().get(name)
    if classes is None:
        return None
    statuses = ", ".join(str(found.status) for found in classes)
    meaning = classes[0].title
    advice = _ADVICE.get(name, "")
    body = f"<h1><code>{_text(name)}</code></h1><p>{_text(meaning)}.</p><p>HTTP status {statuses}.</p>{advice}"
    return _page(name, body)


def _operation(path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f'<h2><span class="method">{_text(method.upper())}</span> <code>{_text(path)}</code></h2>'
    yield f"<p>{_text(operation['summary'])}.</p>"
    for parameter in operation.get("parameters", ()):
        about = parameter.get("description", "")
        yield f"<p><code>{_text(parameter['name'])}</code> ({_text(parameter['in'])}) {_text(about)}</p>"
    if body := operation.get("requestBody"):
        name = body["content"]["application/json"]["schema"]["$ref"].rsplit("/", 1)[-1]
        yield f'<p>Body: <a href="#{_text(name)}"><code>{_text(name)}</code></a> as JSON.</p>'
    yield '<div class="scroll"><table><tr><th>Status</th><th>Meaning</th></tr>'
    for status, answer in operation["responses"].items():
        yield f"<tr><td>{_text(status)}</td><td>{_described(answer['description'])}</td></tr>"
    yield "</table></div>"


def _described(text: str) -> str:
    """`name` as a link to its page where it is a problem type, as code elsewhere."""
    known = problem_types()
    parts = text.split("`")
    for index in range(1, len(parts), 2):
        name = _text(parts[index])
        code = f"<code>{name}</code>"
        parts[index] = f'<a href="/problems/{name}">{code}</a>' if parts[index] in known else code
    return "".join(part if index % 2 else _text(part) for index, part in enumerate(parts))


def _page(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{_text(title)}</title>'
    return f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>'


def _text(text: str) -> str:
    return html.escape(text)


_SAFE: Final = "<p>Nothing was placed. Sending the same request again is safe.</p>"
_DOUBT: Final = (
    "<p>OfferGrid may have the order. Do not send it anew: send the same request with the same"
    " <code>Idempotency-Key</code>, or look at <code>GET /orders/{orderId}</code>.</p>"
)
_ADVICE: Final[Mapping[str, str]] = {
    "outcome-unknown": _DOUBT,
    **dict.fromkeys(
        ("upstream-unavailable", "upstream-throttled", "upstream-credentials", "overloaded", "ledger-unavailable",
         "draining"), _SAFE,
    ),
    "order-rejected": "<p>Final: OfferGrid refused the order. Mend it and send it as a new one.</p>",
    "invalid-order": "<p>The member <code>errors</code> names every fault with a JSON pointer.</p>",
    "unauthorized": "<p>Missing, wrong, revoked and expired tokens are told alike.</p>",
}  # fmt: skip
