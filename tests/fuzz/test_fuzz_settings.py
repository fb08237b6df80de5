"""Settings, right and wrong: they are refused in words, or can be used."""

from typing import Any

import pytest
from hypothesis import strategies as st

from pocket_agent.errors import ConfigurationError
from pocket_agent.server.address import page_urls
from pocket_agent.server.guard import Hosts
from pocket_agent.server.limits import Admission
from pocket_agent.server.peer import Origins
from pocket_agent.settings import is_loopback, load_settings
from pocket_agent.settings.sections import SETTINGS
from tests.fuzz.choice import JSON, chosen, holding

_words: st.SearchStrategy[Any] = st.sampled_from(
    [
        *("on", "off", "true", "0", "1", "-1", "8443", "5m", "1GiB", "0.0.0.0", "127.0.0.1", "::", "localhost", "null"),
        *("https://agent.example", "10.0.0.0/8", "[]", "{}", "a,b", "*", "X-User", "Bash(x)", "default", "/tmp", "~"),
    ]
)
_values = _words | JSON | st.text(max_size=30)
_flags = st.dictionaries(st.sampled_from(sorted(SETTINGS)), _values, max_size=6)
_texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
_variables = st.dictionaries(
    st.sampled_from([setting.variable for setting in SETTINGS.values()]), _words | _texts, max_size=6
)


@pytest.mark.timeout(0)
def test_settings_are_refused_in_words_or_can_be_used() -> None:
    accepted = 0
    tried = chosen(st.tuples(_flags, _variables), 500)
    before = holding()
    for number, (flags, environ) in enumerate(tried):
        if number == len(tried) // 2:
            before = holding()
        try:
            loaded = load_settings(config=None, environ={"HOME": "/nowhere", **environ}, flags=flags)
        except ConfigurationError as error:
            assert error.message.startswith("The settings cannot be used:")
            assert error.details["problems"]
            continue
        accepted += 1
        settings = loaded.settings
        server = settings.server
        if not is_loopback(server.host):
            assert server.auth, "nobody is let in without a token from elsewhere"
            assert server.tls.enabled, "nor without encryption"
        assert not server.sso.header or server.trusted_proxies
        Admission(settings)
        Hosts(settings, auth=server.auth)
        Origins(settings)
        page_urls(settings, server.port, None)
        assert all(effective.source for effective in loaded)
    assert accepted > 0
    assert holding().has_not_grown(before)
