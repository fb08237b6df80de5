"""scripts/prose.py: what it refuses, where it finds it, and that the list of allowed words only shrinks."""

from pathlib import Path

from scripts.prose import ALLOWED, hits, load_rules, main

MODULE = '''"""One.

It is so
many.
"""
beside = {"beside": 1}
print(f"It {beside} is\\nbeside")
# so
# many
'''
VIEW = """const beside = "beside"; // so
const a = <p class="b">{beside}
  so many
</p>;
f("is beside", `${beside} a`);
/** It is
 * beside. */
"""
CASES = {
    "page.md": ("The `beside` of [a page](beside.md)\nis so\nmany.", [2]),
    "CHANGELOG.md": ("## [Unreleased]\nbeside\n## [1.0.0]\nbeside\n", [2]),
    "module.py": (MODULE, [3, 7, 8]),
    "view.tsx": (VIEW, [3, 5, 7]),
    "rules.yml": ("expr: up\nsummary: It is beside\n", [2]),
}
"""Text by the kind of file, and the lines of its refused words."""


def test_each_rule_refuses_its_bad_sentence_and_accepts_the_good_ones() -> None:
    rules = load_rules()
    wrong = [
        f"{rule.refuse.pattern}: {sentence}"
        for rule in rules
        for sentence, refused in [(rule.bad, True), *((sentence, False) for sentence in rule.good)]
        if bool(hits("page.md", f"A page.\n\n{sentence}\n", [rule])) != refused
    ]
    assert not wrong, "\n".join(wrong)
    (hit,) = hits("page.md", "A page.\n\nPrompts wait\nmeanwhile.\n", rules)
    assert str(hit) == "page.md:4: meanwhile -> the condition: 'while the connection is lost'"


def test_words_are_found_in_prose_and_not_in_code() -> None:
    found = {path: [hit.line for hit in hits(path, text, load_rules())] for path, (text, _) in CASES.items()}
    assert found == {path: lines for path, (_, lines) in CASES.items()}


def test_the_allowed_number_of_a_file_can_only_shrink(tmp_path: Path) -> None:
    page, listed = tmp_path / "README.md", tmp_path / ALLOWED
    listed.parent.mkdir()

    def check(text: str, allows: str, *arguments: str) -> tuple[int, str]:
        page.write_text(text, "utf-8")
        listed.write_text(allows, "utf-8")
        return main(list(arguments), tmp_path), listed.read_text("utf-8")

    two = "It is beside the page. Meanwhile it waits.\n"
    assert check(two, "2 README.md\n")[0] == 0
    assert check(two, "1 README.md\n")[0] == 1
    assert check(two, "")[0] == 1
    assert check(two, "3 README.md\n")[0] == 1
    assert check("A page.\n", "1 README.md\n")[0] == 1
    assert check(two, "3 README.md\n", "--write") == (0, "2 README.md\n")
    assert check(two, "2 moved.md\n", "--write") == (0, "2 README.md\n")
    assert check(two, "1 README.md\n", "--write") == (1, "1 README.md\n")
