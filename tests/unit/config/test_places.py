"""Places of fields in text protos."""

from hypothesis import given
from hypothesis import strategies as st

from luci_scheduler.config.places import Place, find_places

TEXT = """# a comment with job { id: "no" }
job { id: "a" noop {} }
job: <
  id: 'b {' "c"
  'd'
  policy { kind: -  GREEDY max: 1.5e3 }
  refs: "x" ; refs: ["y" "z",
    'w', ], other: true
>
list: [{ id: 1 }, < id: 2 >]
last: 7
"""


def _shown(place: Place) -> tuple[int, int]:
    return place.line, place.column


def test_each_field_has_the_place_of_its_name() -> None:
    """Each field has the place of its name; each list item has its own place."""
    root = find_places(TEXT)
    assert [_shown(place) for place in root.fields["job"]] == [(2, 1), (3, 1)]
    job = root.at("job", index=1)
    assert _shown(job.at("id")) == (4, 3)
    assert _shown(job.at("policy", "kind")) == (6, 12)
    assert _shown(job.at("policy", "max")) == (6, 28)
    assert [_shown(place) for place in job.fields["refs"]] == [(7, 3), (7, 15 + 7), (8, 5)]
    assert _shown(job.at("other")) == (8, 13)
    assert [_shown(place.at("id")) for place in root.fields["list"]] == [(10, 10), (10, 21)]
    assert _shown(root.at("last")) == (11, 1)
    assert set(root.fields) == {"job", "list", "last"}


def test_a_missing_field_has_the_place_of_the_enclosing_field() -> None:
    """For a missing field or a too high index, the result is the place of the enclosing field."""
    root = find_places(TEXT)
    assert _shown(root.at("job", index=5)) == (1, 0)
    assert _shown(root.at("job", "policy", "nothing")) == (2, 1)
    assert _shown(root.at("job", index=1).at("refs", index=9)) == (3, 1)


@given(st.text(st.sampled_from("job:{}<>[],;'\"\\ \n#a1-"), max_size=60))
def test_no_text_fails(text: str) -> None:
    """Any text has a place."""
    place = find_places(text)
    assert place.line == 1


def test_depth_and_size_cost_no_stack() -> None:
    """The scanner handles nesting without recursion."""
    root = find_places("a {" * 50_000 + "}" * 50_000)
    assert len(root.fields["a"]) == 1
