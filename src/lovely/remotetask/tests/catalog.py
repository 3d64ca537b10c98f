"""The texts of the pages and their translations.

    python -m lovely.remotetask.tests.catalog     writes the .pot, puts what is new into
                                                  each .po, and makes each .mo from it
"""
import io
import re
from pathlib import Path

from pythongettext.msgfmt import Msgfmt
from zope.app.locales import extract

import lovely.remotetask.browser

DOMAIN = "lovely.remotetask"
ROOM = Path(lovely.remotetask.browser.__path__[0])
LOCALES = ROOM / "locales"
TEMPLATE = LOCALES / f"{DOMAIN}.pot"
HEAD = """msgid ""
msgstr ""
"Project-Id-Version: lovely.remotetask\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Language: {language}\\n"
"""
ENTRY = re.compile(r'msgid ((?:"(?:[^"\\]|\\.)*"\s*)+)msgstr ((?:"(?:[^"\\]|\\.)*"\s*)+)')


def texts() -> list[str]:
    """Every text of the room that is to be translated, in order."""
    found = {str(text) for text in extract.tal_strings(str(ROOM), domain=DOMAIN)}
    found |= {str(text) for text in extract.py_strings(str(ROOM), domain=DOMAIN)}
    found.discard("${DYNAMIC_CONTENT}")
    return sorted(found, key=lambda text: (text.casefold(), text))


def read(path: Path) -> dict[str, str]:
    """{text: translation} of a .po."""
    found = {_plain(text): _plain(translation) for text, translation in
             ENTRY.findall(path.read_text("utf-8"))}
    found.pop("", None)
    return found


def compiled(path: Path) -> bytes:
    """The .mo of a .po."""
    return Msgfmt(io.BytesIO(path.read_bytes()), name=DOMAIN).get()


def languages() -> list[Path]:
    """Each .po.  That of English is empty: the texts are English, and who asks for
    English first must not be answered in another language that is known."""
    return sorted(LOCALES.glob(f"*/LC_MESSAGES/{DOMAIN}.po"))


def write() -> None:
    wanted = texts()
    TEMPLATE.write_text(_written(wanted, {}, ""), "utf-8")
    for path in languages():
        known, english = read(path), path.parts[-3] == "en"
        path.write_text(_written([] if english else wanted, known, path.parts[-3]),
                        "utf-8")
        path.with_suffix(".mo").write_bytes(compiled(path))
        missing = [text for text in wanted if not (english or known.get(text))]
        print(f"{path.parts[-3]}: {len(wanted)} texts, {len(missing)} not translated")
        for text in missing:
            print("   ", text)


def _written(wanted, known, language) -> str:
    return HEAD.format(language=language) + "".join(
        f"\nmsgid {_quoted(text)}\nmsgstr {_quoted(known.get(text, ''))}\n"
        for text in wanted)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _plain(quoted: str) -> str:
    joined = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', quoted))
    return re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), joined)


if __name__ == "__main__":
    write()
