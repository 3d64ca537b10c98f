"""Secrets are hidden from whoever looks, wherever they stand."""
import unittest
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from zope.interface import Interface
from zope.schema import Dict, List, Object, Password, TextLine

from lovely.remotetask.masking import HIDDEN, masked, secrets_in, without
from lovely.remotetask.settings import Settings


class IInner(Interface):
    word = Password(title="Word")
    plain = TextLine(title="Plain")


class IOuter(Interface):
    user = TextLine(title="User")
    word = Password(title="Word", required=False)
    key = TextLine(title="Key", required=False)
    key.setTaggedValue("secret", True)
    inner = Object(title="Inner", schema=IInner, required=False)
    many = List(title="Many", value_type=Object(schema=IInner), required=False)
    words = List(title="Words", value_type=Password(), required=False)
    named = Dict(title="Named", key_type=TextLine(), value_type=Password(), required=False)


@dataclass
class Inner:
    word: str
    plain: str


class Masking(unittest.TestCase):

    def test_fields_that_the_schema_calls_secret(self):
        self.assertEqual(
            masked(IOuter, {"user": "ada", "word": "w", "key": "k"}),
            {"user": "ada", "word": HIDDEN, "key": HIDDEN})

    def test_fields_of_objects_in_objects_and_lists(self):
        inner = {"word": "w", "plain": "p"}
        self.assertEqual(
            masked(IOuter, {"inner": inner, "many": [inner, inner], "words": ["a", "b"],
                            "named": {"x": "y"}}),
            {"inner": {"word": HIDDEN, "plain": "p"},
             "many": [{"word": HIDDEN, "plain": "p"}] * 2,
             "words": HIDDEN, "named": HIDDEN})

    def test_an_object_becomes_a_dictionary_of_its_fields(self):
        self.assertEqual(masked(IInner, Inner("w", "p")), {"word": HIDDEN, "plain": "p"})
        self.assertEqual(masked(IOuter, {"inner": Inner("w", "p")}),
                         {"inner": {"word": HIDDEN, "plain": "p"}})

    def test_a_field_instead_of_a_schema(self):
        self.assertEqual(masked(Password(), "w"), HIDDEN)
        self.assertEqual(masked(TextLine(), "w"), "w")

    def test_names_of_keys_where_no_schema_tells(self):
        for key in ("password", "Password", "dbPassword", "db_password", "DB-PASSWORD",
                    "api_key", "apiKey", "API_KEY", "apikey", "token", "accessToken",
                    "client.secret", "Authorization", "Set-Cookie"):
            self.assertEqual(masked(None, {key: "x"}), {key: HIDDEN}, key)
        for key in ("passwords_count", "tokens", "key", "keyboard", "secretary", "api",
                    "", "user"):
            self.assertEqual(masked(None, {key: "x"}), {key: "x"}, key)

    def test_at_any_depth(self):
        self.assertEqual(masked(None, [{"a": ({"token": 5},)}, "token"]),
                         [{"a": ({"token": HIDDEN},)}, "token"])

    def test_what_is_empty_hides_nothing(self):
        self.assertEqual(masked(None, {"token": None, "password": ""}),
                         {"token": None, "password": ""})

    def test_the_names_can_be_set(self):
        self.assertEqual(masked(None, {"pin": 1, "token": 2}, "pin, puk"),
                         {"pin": HIDDEN, "token": 2})
        self.assertEqual(masked(None, {"token": 2}, ""), {"token": 2})

    def test_the_value_itself_stays_as_it_is(self):
        given = {"token": "x", "list": [{"password": "y"}]}
        masked(None, given)
        self.assertEqual(given, {"token": "x", "list": [{"password": "y"}]})

    def test_what_holds_no_secret_is_the_same_object(self):
        given = {"a": [1, {"b": (2, 3)}]}
        self.assertIs(masked(None, given), given)

    def test_what_is_nested_without_end_is_hidden_down_there(self):
        loop = []
        loop.append(loop)
        self.assertIn(HIDDEN, str(masked(None, loop)))

    def test_secrets_are_found_in_texts(self):
        secrets = secrets_in(IOuter, {"word": "hush-hush", "user": "ada",
                                      "inner": {"word": "abc", "plain": "p"}})
        self.assertEqual(secrets, {"hush-hush"})  # 'abc' is too short to look for
        self.assertEqual(without("no 'hush-hush' here, ada", secrets),
                         f"no '{HIDDEN}' here, ada")

    @given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(
            st.sampled_from(["a", "token", "b"]), inner, max_size=3)), max_leaves=20))
    def test_no_value_under_a_secret_key_is_left(self, value):
        def look(found):
            if isinstance(found, dict):
                if "token" in found:
                    self.assertIn(found["token"], (None, "", HIDDEN))
                for each in found.values():
                    look(each)
            elif isinstance(found, list):
                for each in found:
                    look(each)
        look(masked(None, value, Settings().secret_names))


if __name__ == "__main__":
    unittest.main()
