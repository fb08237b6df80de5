"""Texts that show how a screen sets Markdown, and whether it lets what an agent writes run as a program."""

from typing import Final

MARKDOWN_TEXT: Final = """\
## What I found

The total is computed **twice**: once in `Cart.total()` and again in the template. They disagree when a
coupon is used, because only the first one rounds.

1. Round in one place, at the end.
2. Let the template ask for the total:
   - no arithmetic in templates,
   - one test for each coupon.

```python
from decimal import ROUND_HALF_EVEN, Decimal


def total(self) -> Decimal:
    \"\"\"What the customer pays, rounded once.\"\"\"
    exact = sum((line.price * line.count for line in self.lines), Decimal())
    return (exact - self.discount(exact)).quantize(Decimal("0.01"), ROUND_HALF_EVEN)
```

| coupon | before | after |
|---|---:|---:|
| none | 19.99 | 19.99 |
| 10 % | 17.99 | 17.99 |
| 3 for 2 | 13.33 | 13.32 |

- [x] find the difference
- [x] change `total`
- [ ] ask about orders that are paid already

> A cent is a cent. See [the decimal module](https://docs.python.org/3/library/decimal.html).

```sh
pytest tests/test_cart.py -k coupon
```
"""
"""Everything that agents usually write."""

_RUN: Final = "window.hacked=1"

HOSTILE_MARKUP: Final = (
    f"<script>{_RUN}</script>",
    f'<img src=x onerror="{_RUN}">',
    f"<svg onload={_RUN}><script>{_RUN}</script><a xlink:href='javascript:{_RUN}'><text>x</text></a></svg>",
    f"<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror={_RUN}&gt;'>",
    f"<iframe srcdoc='<script>parent.{_RUN}</script>'></iframe>",
    f"<object data='data:text/html,<script>{_RUN}</script>'></object><embed src='javascript:{_RUN}'>",
    f"<form action='javascript:{_RUN}'><button id=app name=body>Allow</button><input autofocus onfocus={_RUN}></form>",
    f"<details open ontoggle={_RUN}><summary>x</summary></details>",
    f"<video><source onerror={_RUN}></video><audio src=x onerror={_RUN}></audio><body onload={_RUN}>",
    "<style>* { display: none !important }</style><link rel=stylesheet href=https://evil.example/x.css>",
    "<base href='https://evil.example/'><meta http-equiv=refresh content='0;url=https://evil.example/'>",
    f"<a href='javascript:{_RUN}'>one</a> <a href=' java\tscript:{_RUN}'>two</a> <a href='vbscript:{_RUN}'>three</a>",
    f"[four](javascript:{_RUN}) [five](&#x6A;avascript:{_RUN}) [six](data:text/html,<script>{_RUN}</script>)",
    f"<javascript:{_RUN}> [seven]: javascript:{_RUN}\n\n[seven]",
    f"![pixel](https://evil.example/pixel.png) ![x](x\"onerror=\"{_RUN}) <img src='https://evil.example/pixel.png'>",
    f'[eight](https://evil.example/ "&quot; onmouseover={_RUN}")',
    "<button class='button primary allow' onclick='x'>Allow</button>",
    "<div class='dock sheet' style='position:fixed'>x</div>",
    "<a href='/settings' data-route id=root name=forms>nine</a> <p aria-live=assertive data-offset=1>ten</p>",
    f'```js"><img src=x onerror={_RUN}>\n<script>{_RUN}</script>\n```',
    f"| <img src=x onerror={_RUN}> |\n|---|\n| <script>{_RUN}</script> |",
    f"<noscript><p title='</noscript><img src=x onerror={_RUN}>'></noscript>",
    f"<template><script>{_RUN}</script></template>",
)
"""Markup that would run a program, load something from elsewhere, or look like a part of the page."""

HOSTILE_TEXT: Final = "\n\n".join(HOSTILE_MARKUP) + "\n\nThis is the end of it."
