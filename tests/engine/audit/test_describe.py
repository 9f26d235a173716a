from mothlight.engine.audit.describe import joined, parted, sentences

LABELS = ["fly", "bee", "goldfish"]


def test_sentences_that_name_a_label_only_name() -> None:
    caption = "a photograph of a bee ( insect ). it is on a flower . it is day! two flies"
    assert sentences(caption, LABELS) == {"it is on a flower.", "it is day!", "two flies."}
    assert sentences("Two Bees on wood. fine", LABELS) == {"fine."}
    assert sentences("", LABELS) == frozenset()


def test_a_label_with_odd_characters_is_no_pattern() -> None:
    assert sentences("it is (a. it is day.", ["(a"]) == {"it is (a.", "it is day."}


def test_the_same_sentences_are_one_description_in_any_order() -> None:
    assert joined(parted("it is red. it is day.")) == joined(parted("it is day.  it is red")) == "it is day. it is red."
