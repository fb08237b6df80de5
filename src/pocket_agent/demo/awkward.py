"""Text that breaks careless programs: every character that some layer between model and screen mishandles."""

from typing import Final

AWKWARD_CHARACTERS: Final = {
    "NUL": "a\x00b",
    "bell, backspace, delete": "\x07\x08\x7f",
    "ANSI colour and title": "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "carriage returns": "one\rtwo\r\nthree",
    "tabs and trailing blanks": "\ttab\t  \n",
    "quotes": "\"double\" 'single' `back` \u201ccurly\u201d \xabguillemets\xbb",
    "backslashes": "\\ \\\\ \\n \\u0041 C:\\temp",
    "line and paragraph separators": "U+2028:\u2028 U+2029:\u2029 NEL:\x85",
    "byte order mark, zero width": "\ufeff\u200b\u200c\u200d\u2060",
    "right to left": (
        "\u200f\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd "
        "\u0645\u0631\u062d\u0628\u0627 \u202eoverride\u202c end"
    ),
    "combining": "e\u0301 n\u0303 Z\u0351\u036b\u0343",
    "emoji, joiners, flags": (
        "\U0001f600 \U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 "
        "\U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea \u2764\ufe0f"
    ),
    "four bytes": "\U0001d54f \U0002070e \U0010fffd",
    "not characters": "\ufffe\uffff\ufffd",
    "half of a surrogate pair": "a\ud83db",
    "HTML": "<script>alert('x')</script> <img src=x onerror=alert(1)> &amp; &lt;",
    "JSON and SSE look-alikes": '{"type":"result"}\n\ndata: {"type":"error"}\nevent: message_stop',
    "Markdown": "```\nfence\n``` **bold** [link](javascript:alert(1)) | table |",
    "templates and shells": "{{ x }} ${HOME} $(true) %s %n {0}",
    "a very long word": "W" * 5000,
}
"""Each kind of awkwardness by name."""

AWKWARD_TEXT: Final = "\n".join(f"{name}: {text}" for name, text in AWKWARD_CHARACTERS.items())
"""All of it, a line or more for each kind."""
