"""Fifty names that a training script could give to a run, a study, a metric or a flag, and what they try."""

from __future__ import annotations

HIT = "window.parent.hit=1"
HOSTILE_NAMES = (
    # Markup and scripts
    f"<script>{HIT}</script>",
    f"<img src=x onerror={HIT}>",
    f"<svg/onload={HIT}>",
    f'"><img src=x onerror={HIT}>',
    f"'><svg onload={HIT}>",
    f"</script><script>{HIT}</script>",
    f"</title><script>{HIT}</script>",
    f"<iframe srcdoc='<script>{HIT}</script>'>",
    f"javascript:{HIT}",
    f"<a href='javascript:{HIT}'>a</a>",
    f"{{{{constructor.constructor('{HIT}')()}}}}",
    f"${{{HIT}}}",
    "<style>*{display:none}</style>",
    "<base href=//evil.example/>",
    "<!--",
    "]]>",
    "&lt;script&gt;",
    "&#60;b&#62;",
    # Names of what JavaScript objects have already
    "__proto__",
    "constructor",
    "prototype",
    "toString",
    "hasOwnProperty",
    "__defineGetter__",
    # Paths
    "../../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "C:\\con",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%00",
    "file:///etc/passwd",
    "CON",
    ".",
    "..",
    "-rf",
    "~",
    # What addresses, tables and other programs take for their own
    "a&p.foretrain.view=flags#x",
    "a?b=c#d",
    "a,b;c",
    '=HYPERLINK("http://evil.example")',
    "'; DROP TABLE runs; --",
    "`id` $(id)",
    "%s%n{0}",
    # Letters
    "\u202egnp.exe",
    "a\u0000b",
    "\u001b[2J",
    "line\nbreak\ttab",
    "\u65e5\u672c \u00fcn\u00ef \U0001f600",
    "x" * 4096,
    " ",
)
