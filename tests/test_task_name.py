import pytest

from iimt_search.task_name import TaskName, parse_task_name, slug


@pytest.mark.parametrize("text", ["a->b", " a -> b ", "a→b", "a → b", "a ->b"])
def test_spellings_of_one_task(text: str) -> None:
    assert parse_task_name(text) == TaskName("a", "b")


def test_str_and_slug() -> None:
    name = TaskName("syn-digits", "digits-m")
    assert str(name) == "syn-digits->digits-m"
    assert slug(str(name)) == "syn-digits_to_digits-m"
    assert slug("a b/../c->d") == "a_b_.._c_to_d"
    assert slug("->") == "to" and slug("../..") == "task"
    assert parse_task_name(str(name)) == name


@pytest.mark.parametrize("text", ["", "a", "->", "a->", "->b", "a->b->c", "a- >b", "a→b->c", " -> "])
def test_not_one_arrow_between_two_names(text: str) -> None:
    with pytest.raises(ValueError, match=r"a task is named 'source->target', got "):
        parse_task_name(text)


def test_same_domain_twice() -> None:
    with pytest.raises(ValueError, match=r"source and target must differ, got 'a -> a'"):
        parse_task_name("a -> a")
